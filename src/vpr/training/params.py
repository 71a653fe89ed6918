"""``train`` of ``params.yaml``, and the part of it that stands in the chosen dataset's own block.

What all datasets share is in ``train``; what suits one dataset, such as the image size and the schedule, is in
``datasets.<name>.train``. A key stands in one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vpr.config.errors import UserError
from vpr.config.params import (
    PARAMS_FILE,
    Options,
    load_dataset_name,
    parse,
    read_params,
    reads,
    reject_unknown,
    resolved,
    value_at,
)
from vpr.model.spec import Pixels

UNTRAINED = "untrained"  # instead of the path of a checkpoint
SHARED, OWN = "train", "datasets.${dataset}.train"


class TrainParams(Options):
    """The training loop's settings."""

    checkpoint: str | None = Field(
        title="null, a path, or untrained",
        description="`null` to train; the path of a checkpoint of this project, which is then evaluated as it is; or "
        "`untrained`, for the model as a training would begin with it, random or with `weights`",
    )
    image_size: list[Pixels] = Field(
        min_length=2,
        max_length=2,
        title="[height, width] in pixels",
        description="height and width in pixels that every image is resized to",
    )
    weights: str | None = Field(
        description="starting weights of the backbone: `null` for random ones, `imagenet`, or the path of a state dict"
    )
    layers_to_crop: list[Annotated[int, Field(ge=1, le=4)]] = Field(
        description="stages of the backbone to leave out, such as `[4]` for the last; every backbone has four"
    )
    layers_to_freeze: Annotated[int, Field(ge=0, le=4)] | None = Field(
        description="`null` trains all, `0` freezes what comes before the stages, `n` also the first `n`"
    )
    places_per_batch: int = Field(ge=2, le=100_000, description="places in a batch")
    images_per_place: int = Field(ge=1, le=1000, description="images of each place in a batch")
    min_images_per_place: int = Field(ge=1, le=1000, description="places with fewer images are left out")
    sample_images: Literal["random", "first"] = Field(description="which images of a place a batch takes")
    shuffle_places: bool = Field(description="new batches of places in each epoch")
    batches: Literal["random", "city", "group", "similar", "cliques"] = Field(
        description="which places share a batch: `random` ones, those of one `city`, those of one `group` of cells, "
        "which never touch, `similar` ones, found in each epoch by the current model's descriptors of one image of "
        "each place, or `cliques` of images near each other, cut by position from what looks alike; these ignore "
        "`place_id`"
    )
    similar_places: int = Field(
        ge=2, le=100_000, description="how many similar places are put together; a batch has several such groups"
    )
    clique_m: float = Field(gt=0, le=1e6, description="images of a clique are at most so far apart, in metres")
    min_place_distance_m: float = Field(
        ge=0, le=1e8, description="no two places of a batch are nearer to each other; 0 lets any share a batch"
    )
    memory_size: int = Field(
        ge=0,
        le=10_000_000,
        description="descriptors of earlier batches that the loss compares a batch with as well; 0 for none",
    )
    augment_ops: int = Field(ge=0, le=100, description="operations of RandAugment on each training image; 0 for none")
    optimizer: Literal["sgd", "adam", "adamw"] = Field(description="the optimizer")
    lr: float = Field(gt=0, le=1000, description="learning rate after the warm-up")
    weight_decay: float = Field(ge=0, le=1000, description="weight decay")
    momentum: float = Field(ge=0, lt=1, description="momentum of `sgd`")
    warmup_steps: int = Field(ge=0, le=100_000_000, description="the learning rate rises linearly over these steps")
    milestones: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field(
        description="epochs after which the learning rate is multiplied by `lr_mult`"
    )
    lr_mult: float = Field(gt=0, le=1000, description="factor of the learning rate at each milestone")
    max_epochs: int = Field(ge=1, le=1_000_000, description="epochs to train")
    check_val_every_n_epochs: int = Field(
        ge=1, le=1_000_000, description="how often the validation recalls are computed"
    )
    val_set: str = Field(description="evaluation set to validate on during training")
    val_recall_at: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        min_length=1, description="the N of the validation recalls"
    )
    monitor: str = Field(description="validation recall that the best checkpoint maximises, such as `recall_at_1`")
    val_batch_size: int = Field(ge=1, le=100_000, description="images at a time in validation")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        description="Lightning's precision of the model; miner and loss always run in float32. `auto` is `bf16-mixed` "
        "on a GPU or CPU that computes with it, otherwise `32-true`"
    )
    compile: bool = Field(description="compile the model with `torch.compile`, which takes a minute or more at first")
    images_per_forward: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        description="`null` computes a batch at once; a number computes it in chunks of so many images, with the same "
        "loss over the whole batch: it takes the memory of a chunk, and a third more time. Batch norm then takes the "
        "statistics of a chunk"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(description="`auto` takes a GPU when there is one")
    devices: int = Field(
        ge=1,
        le=1024,
        description="GPUs of a machine that share each batch, with as many places each; without a GPU, processes",
    )
    num_nodes: int = Field(ge=1, le=1024, description="machines that do, see docs/machines.md")
    num_workers: Annotated[int, Field(ge=0, le=256)] | None = Field(
        description="loader processes; `null` takes one less than the cores, at most 8"
    )
    decode_on_gpu: bool = Field(
        description="the GPU decodes JPEGs, from files that are read in each epoch, and nothing is kept decoded; for "
        "machines with few cores for each GPU"
    )
    cache_gb: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        description="memory for decoded images of training and validation, which are then read once; `null` takes up "
        "to half of what is free, which is also the most, 0 none"
    )
    max_memory_gb: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="memory that miner and loss may take for a batch; `null` takes what the device has"
    )
    log_every_n_steps: int = Field(ge=1, le=1_000_000, description="steps between rows of the training curve")
    seed: int = Field(ge=0, le=2**32 - 1, description="seed of weights, batches and augmentation")

    @model_validator(mode="after")
    def _fit_together(self) -> TrainParams:
        if self.min_images_per_place < self.images_per_place:
            raise ValueError(
                f"min_images_per_place is {self.min_images_per_place}, but a batch takes {self.images_per_place} "
                "images of a place; raise it to at least images_per_place"
            )
        if self.batches == "cliques" and self.memory_size:
            raise ValueError(
                f"memory_size is {self.memory_size}, and batches are cliques, whose labels are good for one batch; set "
                "it to 0"
            )
        if self.check_val_every_n_epochs > self.max_epochs:
            raise ValueError(
                f"check_val_every_n_epochs is {self.check_val_every_n_epochs}, more than max_epochs {self.max_epochs}, "
                "so no epoch would be validated; lower it"
            )
        ranks = self.devices * self.num_nodes
        if self.places_per_batch % ranks:
            raise ValueError(
                f"places_per_batch is {self.places_per_batch}, which {ranks} devices (devices x num_nodes) can't share "
                f"equally; make it a multiple of {ranks}"
            )
        known = [f"recall_at_{n}" for n in self.val_recall_at]
        if self.monitor not in known:
            raise ValueError(f"monitor is {self.monitor!r}; expected one of: {', '.join(known)}")
        return self


@reads("dataset", SHARED, OWN)
def load_train(path: Path = PARAMS_FILE) -> TrainParams:
    """The training settings of the chosen dataset, with the files that they name checked.

    Raises:
        UserError: for a wrong key or value, and for a key that stands in both places.
    """
    params = merge_train(path)
    for key in ("weights", "checkpoint"):
        file = getattr(params, key)
        word = "imagenet" if key == "weights" else UNTRAINED
        if file not in (None, word) and not Path(file).is_file():
            raise UserError(
                f"{path}: {place_of(key, path)} is {file!r}, and there is no such file; choose null or {word}, or "
                "correct the path"
            )
    return params


def merge_train(path: Path = PARAMS_FILE, dataset: str | None = None) -> TrainParams:
    """``train`` and a dataset's own part of it as one.

    Args:
        dataset: the chosen one by default.
    """
    name = dataset or load_dataset_name(path)
    shared = _mapping(read_params(path)[SHARED], f"{path}: {SHARED}")
    own_key = f"datasets.{name}.train"
    own = _mapping(value_at(own_key, path), f"{path}: {own_key}")
    for block, place in ((shared, SHARED), (own, own_key)):
        reject_unknown(block, TrainParams.model_fields, f"{path}: {place}")
    both = sorted(shared.keys() & own.keys())
    if both:
        raise UserError(
            f"{path}: {both[0]} stands in {SHARED} and in {own_key}; keep it in {SHARED} if all datasets share it, "
            "otherwise in the block of each dataset"
        )
    missing = sorted(set(TrainParams.model_fields) - shared.keys() - own.keys())
    if missing:
        raise UserError(f"{path}: neither {SHARED} nor {own_key} has the key {missing[0]!r}")
    return parse({**shared, **own}, TrainParams, f"{path}: {own_key}", dict.fromkeys(shared, f"{path}: {SHARED}"))


def place_of(key: str, path: Path = PARAMS_FILE) -> str:
    """Where a key of the training settings stands, such as ``train.seed``."""
    return f"{SHARED if key in read_params(path)[SHARED] else resolved(OWN, path)}.{key}"


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}; expected keys and values")
    return value
