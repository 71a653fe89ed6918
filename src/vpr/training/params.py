"""The training settings of ``params.yaml``.

Settings that all datasets share are in ``train``; those that suit one dataset, such as the image size and the schedule,
are in ``datasets.<name>.train``, which is null for a dataset that is only evaluated. A key is in one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vpr.config.errors import UserError
from vpr.config.params import Options, Params, parse, reads, reject_unknown
from vpr.model.spec import ListedImageSize

UNTRAINED = "untrained"  # instead of the path of a checkpoint
SHARED, OWN = "train", "datasets.${dataset}.train"


class TrainParams(Options):
    """Settings of the training loop."""

    checkpoint: str | None = Field(
        title="null, a path, or untrained",
        description="`null` to train; the path of a checkpoint of this project to evaluate it without training; or "
        "`untrained` to evaluate the initial model, random or with `weights`",
    )
    image_size: ListedImageSize = Field(
        title="[height, width] in pixels",
        description="height and width that every image is resized to, in pixels",
    )
    weights: str | None = Field(
        description="initial weights of the backbone: `null` for random ones, `imagenet`, or the path of a state dict"
    )
    layers_to_crop: list[Annotated[int, Field(ge=1, le=4)]] = Field(
        description="stages of the backbone to leave out, such as `[4]` for the last; every backbone has four"
    )
    layers_to_freeze: Annotated[int, Field(ge=0, le=4)] | None = Field(
        description="`null` trains all weights, `0` freezes those before the first stage, `n` also the first `n` stages"
    )
    places_per_batch: int = Field(ge=2, le=100_000, description="places in a batch")
    images_per_place: int = Field(ge=1, le=1000, description="images of each place in a batch")
    min_images_per_place: int = Field(ge=1, le=1000, description="places with fewer images are left out")
    sample_images: Literal["random", "first"] = Field(description="which images of a place a batch takes")
    shuffle_places: bool = Field(description="new batches of places in each epoch")
    batches: Literal["random", "city", "group", "similar", "cliques"] = Field(
        description="which places share a batch: `random` places, places of one `city`, places of one `group` of cells "
        "that are not adjacent, `similar` places, found in each epoch from the current model's descriptor of one image "
        "of each place, or `cliques` of nearby images, made from positions among similar images, without `place_id`"
    )
    similar_places: int = Field(
        ge=2, le=100_000, description="number of similar places in a group; a batch has several groups"
    )
    clique_m: float = Field(gt=0, le=1e6, description="largest distance between two images of a clique, in metres")
    min_place_distance_m: float = Field(
        ge=0, le=1e8, description="smallest distance between two places of a batch, in metres; 0 for no limit"
    )
    memory_size: int = Field(
        ge=0,
        le=10_000_000,
        description="number of descriptors of earlier batches that the loss also compares with; 0 for none",
    )
    augment_ops: int = Field(
        ge=0, le=100, description="number of RandAugment operations on each training image; 0 for none"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(description="the optimizer")
    lr: float = Field(gt=0, le=1000, description="learning rate after the warm-up")
    weight_decay: float = Field(ge=0, le=1000, description="weight decay")
    momentum: float = Field(ge=0, lt=1, description="momentum of `sgd`")
    warmup_steps: int = Field(ge=0, le=100_000_000, description="steps over which the learning rate rises linearly")
    milestones: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field(
        description="epochs after which the learning rate is multiplied by `lr_mult`"
    )
    lr_mult: float = Field(gt=0, le=1000, description="factor of the learning rate at each milestone")
    max_epochs: int = Field(ge=1, le=1_000_000, description="number of epochs")
    check_val_every_n_epochs: int = Field(ge=1, le=1_000_000, description="epochs between two validations")
    val_set: str = Field(description="evaluation set to validate on during training")
    val_recall_at: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        min_length=1, description="N of the validation recalls"
    )
    monitor: str = Field(description="validation recall that decides which epoch is the best, such as `recall_at_1`")
    val_batch_size: int = Field(ge=1, le=100_000, description="images in a batch of the validation")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        description="Lightning's precision of the model; miner and loss always run in float32. `auto` is `bf16-mixed` "
        "on a GPU or CPU that computes with it, otherwise `32-true`"
    )
    compile: bool = Field(description="compile the model with `torch.compile`, which takes a minute or more at first")
    images_per_forward: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        description="`null` to compute a batch at once, or the number of images of a chunk, to save memory: the loss "
        "over the whole batch is the same, a step takes a third longer, and batch norm uses the statistics of a chunk"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(description="`auto` uses a GPU if there is one")
    devices: int = Field(
        ge=1,
        le=1024,
        description="number of GPUs of a machine that share each batch equally; on a CPU, number of processes",
    )
    num_nodes: int = Field(ge=1, le=1024, description="number of machines that share each batch, see docs/machines.md")
    num_workers: Annotated[int, Field(ge=0, le=256)] | None = Field(
        description="number of loader processes; `null` for one less than the number of cores, at most 8"
    )
    decode_on_gpu: bool = Field(
        description="decode JPEGs on the GPU in every epoch, instead of keeping decoded images in memory; for machines "
        "with few cores for each GPU"
    )
    cache_gb: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        description="memory for decoded images of training and validation, which are then read once; at most half of "
        "the free memory, which `null` takes; 0 keeps none"
    )
    max_memory_gb: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        description="memory that miner and loss may take for a batch; `null` for the memory of the device"
    )
    log_every_n_steps: int = Field(ge=1, le=1_000_000, description="steps between two rows of the training curve")
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
                f"places_per_batch is {self.places_per_batch}, which {ranks} devices (devices x num_nodes) cannot "
                f"share equally; make it a multiple of {ranks}"
            )
        known = [f"recall_at_{n}" for n in self.val_recall_at]
        if self.monitor not in known:
            raise ValueError(f"monitor is {self.monitor!r}; expected one of: {', '.join(known)}")
        return self


@reads("train.checkpoint")
def load_checkpoint_path(params: Params) -> Path | None:
    """Return the path of the checkpoint to evaluate; ``None`` if the model is built from ``params.yaml``.

    Raises:
        UserError: if the file does not exist.
    """
    checkpoint = params.value("train.checkpoint", str | None)
    if checkpoint in (None, UNTRAINED):
        return None
    _require_file(checkpoint, "train.checkpoint", UNTRAINED, params)
    return Path(checkpoint)


@reads("dataset", SHARED, OWN)
def load_train(params: Params) -> TrainParams:
    """Return the training settings of the chosen dataset; the files that they name have to exist.

    Raises:
        UserError: for an invalid key or value, for a key in both places, and for a dataset that is only evaluated.
    """
    settings = merge_train(params, params.dataset)
    if settings is None:
        raise UserError(
            f"{params.where(OWN)} is null, so {params.dataset} is only evaluated; set train.checkpoint to the path of "
            "a checkpoint, or choose another dataset"
        )
    if settings.weights not in (None, "imagenet"):
        _require_file(settings.weights, place_of("weights", params), "imagenet", params)
    return settings


def merge_train(params: Params, dataset: str) -> TrainParams | None:
    """Return ``train`` and a dataset's own settings as one; ``None`` for a dataset that is only evaluated."""
    own_key = f"datasets.{dataset}.train"
    shared, own = params.raw(SHARED), params.raw(own_key)
    if own is None:
        return None
    for block, place in ((shared, SHARED), (own, own_key)):
        if not isinstance(block, Mapping):
            raise UserError(f"{params.where(place)} is {block!r}; expected keys and values")
        reject_unknown(block, TrainParams.model_fields, params.where(place))
    both = sorted(shared.keys() & own.keys())
    if both:
        raise UserError(
            f"{params.path}: {both[0]} is in {SHARED} and in {own_key}; keep it in {SHARED} if all datasets share it, "
            "otherwise in the block of each dataset"
        )
    missing = sorted(set(TrainParams.model_fields) - shared.keys() - own.keys())
    if missing:
        raise UserError(f"{params.path}: neither {SHARED} nor {own_key} has the key {missing[0]!r}")
    return parse({**shared, **own}, TrainParams, params.where(own_key), dict.fromkeys(shared, params.where(SHARED)))


def place_of(key: str, params: Params) -> str:
    """Return the full name of a training setting, such as ``train.seed``."""
    return f"{SHARED if key in params.raw(SHARED) else params.resolved(OWN)}.{key}"


def _require_file(file: str, key: str, word: str, params: Params) -> None:
    if not Path(file).is_file():
        raise UserError(
            f"{params.where(key)} is {file!r}, and there is no such file; choose null or {word}, or correct the path"
        )
