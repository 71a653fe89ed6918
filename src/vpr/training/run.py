"""A whole training, from manifests to checkpoints; an interrupted one continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import psutil
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch.utils.data import Subset

import vpr
from vpr.config.errors import UserError
from vpr.config.project import main_root
from vpr.config.ranks import is_first_rank
from vpr.data.loading import ImageList, loader_processes
from vpr.data.manifest import Manifest
from vpr.data.resized import Resized
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.device import pick_device
from vpr.model.extraction import extract
from vpr.model.vpr_model import VPRModel
from vpr.training.batches import PlaceSampler
from vpr.training.build import build_criterion, build_model
from vpr.training.cautions import few_batches
from vpr.training.cliques import CliqueSampler
from vpr.training.clusters import initialise_clusters
from vpr.training.configuration import RunConfiguration
from vpr.training.memory import GIB
from vpr.training.params import UNTRAINED, TrainParams
from vpr.training.places import PlaceImages, Places
from vpr.training.ranks import gathered_parts, own_part
from vpr.training.summary import TrainingLog, TrainingSummary
from vpr.training.validation import validation_of

if TYPE_CHECKING:
    from vpr.training.history import Report
    from vpr.training.loop import Trained

# The folders whose code decides what a training does: what the train stage depends on in dvc.yaml.
CODE = ("config", "data", "retrieval", "model", "training")


class Tracker(Protocol):
    """Follows a training while it runs."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Add a row of the training curve."""

    def finish(self, best: Path) -> None:
        """The training has ended, and this is its checkpoint."""


Track = Callable[[str, RunConfiguration, Manifest, str, TrainingLog], AbstractContextManager[Tracker]]


def run_key(configuration: RunConfiguration, files: Sequence[Path], radius_m: float) -> str:
    """Names the scratch folder of a training, so that other data, parameters or code never resume it.

    It resumes on another number of devices.

    Args:
        files: that say what is trained on: manifests, and where copies of the images are.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    content = configuration.as_dict()
    content["train"] = {key: value for key, value in content["train"].items() if key not in ("devices", "num_nodes")}
    digest.update(json.dumps([content, radius_m], sort_keys=True, default=str).encode())
    weights = configuration.settings.weights
    if weights not in (None, "imagenet"):
        digest.update(Path(str(weights)).read_bytes())
    package = Path(vpr.__file__).parent
    for source in sorted(file for folder in CODE for file in (package / folder).rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def use_checkpoint(checkpoint: Path, models: Path, digest: str) -> tuple[pd.DataFrame, TrainingSummary]:
    """Take a checkpoint as it is: it becomes ``best`` and ``last``, and there is no history.

    Args:
        models: folder for the checkpoints.
        digest: of the training manifest.

    Raises:
        UserError: if it is not a checkpoint, or does not say what the model was trained with.
    """
    model, metadata = load_checkpoint(checkpoint)
    try:
        configuration, epoch = RunConfiguration.from_dict(metadata["configuration"]), int(metadata["epoch"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{checkpoint}: the checkpoint does not say what the model was trained with: configuration, epoch: {error}"
        ) from None
    for name in ("best", "last"):
        save_checkpoint(models / f"{name}.ckpt", model.spec, model.state_dict(), metadata)
    print(f"no training: {checkpoint} is evaluated as it is")
    summary = TrainingSummary(configuration, digest, model.descriptor_dim, epoch, checkpoint=str(checkpoint))
    return _without_history(summary, models)


def use_untrained(configuration: RunConfiguration, models: Path, digest: str) -> tuple[pd.DataFrame, TrainingSummary]:
    """Take the model that a training would begin with; there is no history, and clusters stay random.

    Args:
        models: folder for the checkpoints.
        digest: of the training manifest.
    """
    model = build_model(configuration, configuration.settings.weights)
    metadata = {"configuration": configuration.as_dict(), "dataset_digest": digest, "epoch": 0}
    for name in ("best", "last"):
        save_checkpoint(models / f"{name}.ckpt", model.spec, model.state_dict(), metadata)
    print("no training: the model is evaluated as it begins")
    summary = TrainingSummary(configuration, digest, model.descriptor_dim, 0, checkpoint=UNTRAINED)
    return _without_history(summary, models)


def _without_history(summary: TrainingSummary, models: Path) -> tuple[pd.DataFrame, TrainingSummary]:
    TrainingLog.of_this_process().save(models / "best.ckpt")
    return pd.DataFrame(columns=["step", "epoch", "loss"]), summary


def train_model(
    configuration: RunConfiguration,
    manifest: Manifest,
    validation_manifest: Manifest,
    resized: Resized,
    radius_m: float,
    key: str,
    digest: str,
    models: Path,
    track: Track,
) -> tuple[pd.DataFrame, TrainingSummary] | None:
    """Train, write the checkpoints, and return the history and what was trained.

    Of several ranks the first does so, and the others return ``None``.

    Args:
        manifest, validation_manifest: of the training images, and of the validation set.
        resized: copies of the training images, if there are.
        radius_m: a database image within it is a positive.
        key: see ``run_key``.
        digest: of the training manifest.
        models: folder for ``best.ckpt`` and ``last.ckpt``.
        track: makes what follows the training.
    """
    settings, spec = configuration.settings, configuration.spec
    model = build_model(configuration, settings.weights)
    rows = manifest.train()
    if rows.empty:
        raise UserError(
            f"dataset {manifest.name} has no training images; list some with the split train, or name a checkpoint to "
            "evaluate in train.checkpoint"
        )
    places = Places(rows, settings.min_images_per_place)
    device = pick_device(settings.accelerator)

    images = ImageList(*resized.locate(manifest, rows["image"]), spec.preprocess())
    sampler = place_sampler(places, rows, settings, describer(model, images, device, settings))
    criterion = build_criterion(configuration, model.descriptor_dim, len(places))
    validation = validation_of(validation_manifest, spec, settings, radius_m)
    _require_files(images.folder, images.images)
    for loader in validation.loaders:
        _require_files(loader.dataset.folder, loader.dataset.images)
    workers = loader_processes(settings.num_workers, settings.devices)
    tell = partial(print, flush=True) if is_first_rank() else _say_nothing
    ranks = settings.devices * settings.num_nodes
    shared = f", each shared by {ranks} processes" if ranks > 1 else ""
    tell(
        f"training on {len(rows):,} images of {len(places):,} places ({places.num_left_out} places have fewer than "
        f"{settings.min_images_per_place} images), {len(sampler)} batches an epoch{shared}; {spec.backbone} "
        f"+ {spec.aggregator}, descriptor {model.descriptor_dim}, {weights_in_words(model)}; "
        f"{configuration.loss.name}, {configuration.miner.name}"
    )
    for caution in few_batches(len(places), settings.places_per_batch):
        tell(f"note: {caution}")
    from vpr.training.loop import fit  # Lightning takes seconds to import; what is wrong is found before

    log = TrainingLog.of_this_process()
    kept = [] if settings.decode_on_gpu else [images]
    dataset = PlaceImages(images, augment=device.type == "cpu", decode=not settings.decode_on_gpu)

    def train(scratch: Path, report: Report) -> Trained:
        keep_decoded(
            settings.cache_gb, workers, settings.devices, *kept, *(loader.dataset for loader in validation.loaders)
        )
        return fit(model, criterion, dataset, sampler, validation, settings, workers, scratch, report)

    if not is_first_rank():  # the first one's weights are sent to it
        train(_scratch_path(key), _say_nothing)
        return None
    with scratch_folder(key) as scratch, track(key, configuration, manifest, digest, log) as tracker:
        initialise_clusters(model, images, device, settings.seed)
        trained = train(scratch, tracker.log)
        save_models(trained, configuration, digest, models)
        rate = trained.num_images / max(1e-9, trained.seconds)
        TrainingLog.of_this_process(round(trained.seconds, 1), round(rate, 1)).save(models / "best.ckpt")
        tracker.finish(models / "best.ckpt")
    summary = TrainingSummary(
        configuration,
        digest,
        model.descriptor_dim,
        trained.best_epoch,
        run_key=key,
        num_places=len(places),
        num_images=len(rows),
    )
    return pd.DataFrame(trained.history), summary


def weights_in_words(model: VPRModel) -> str:
    """How many weights are trained, of how many."""
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    total = sum(weight.numel() for weight in weights)
    return f"{trained / 1e6:.2f} M of {total / 1e6:.2f} M weights trained"


def _say_nothing(*_: Any) -> None:
    """What a rank other than the first prints and reports."""


def keep_decoded(cache_gb: float | None, num_workers: int, ranks: int, *lists: ImageList) -> None:
    """Keep images that are visited again and again: those of the first list before those of the next.

    Args:
        ranks: of this machine, which share its memory.
    """
    half = psutil.virtual_memory().available / 2
    left = (half if cache_gb is None else min(half, cache_gb * GIB)) / ranks
    for images in lists:
        left -= images.keep_decoded(left, num_workers)


def save_models(trained: Trained, configuration: RunConfiguration, digest: str, models: Path) -> None:
    """Write ``best.ckpt`` and ``last.ckpt``."""
    metadata: dict[str, Any] = {"configuration": configuration.as_dict(), "dataset_digest": digest}
    epochs = {"best": trained.best_epoch, "last": configuration.settings.max_epochs}
    for name, state in (("best", trained.best), ("last", trained.last)):
        save_checkpoint(models / f"{name}.ckpt", configuration.spec, state, {**metadata, "epoch": epochs[name]})


def place_sampler(
    places: Places, rows: pd.DataFrame, settings: TrainParams, describe: Callable[[list[int]], Any]
) -> PlaceSampler | CliqueSampler:
    """The batches of places that the settings ask for.

    Args:
        rows: the manifest's training rows, which ``places`` were made of.
    """
    if settings.batches == "cliques":
        return CliqueSampler(
            rows,
            settings.places_per_batch,
            settings.images_per_place,
            settings.similar_places,
            settings.clique_m,
            settings.seed,
            settings.augment_ops,
            describe,
        )
    return PlaceSampler(
        places,
        settings.places_per_batch,
        settings.images_per_place,
        settings.sample_images == "random",
        settings.shuffle_places,
        settings.seed,
        settings.batches,
        settings.min_place_distance_m,
        settings.similar_places,
        settings.augment_ops,
        describe,
    )


def _scratch_path(key: str) -> Path:
    return main_root() / "data" / "scratch" / f"train-{key}"


def describer(
    model: VPRModel, images: ImageList, device: torch.device, settings: TrainParams
) -> Callable[[list[int]], NDArray[np.float32]]:
    """What describes training images by the model as it is then; several ranks share the work."""

    def describe(chosen: list[int]) -> NDArray[np.float32]:
        own = own_part(len(chosen))
        shown: Any = Subset(images, chosen[own.start : own.stop])
        out = np.empty((len(own), model.descriptor_dim), dtype=np.float32)
        extract(model, shown, out, device, settings.val_batch_size, settings.num_workers, "looking for similar places")
        of_all: NDArray[np.float32] = gathered_parts(torch.from_numpy(out).to(device), len(chosen)).cpu().numpy()
        return of_all

    return describe


@contextmanager
def scratch_folder(key: str) -> Iterator[Path]:
    """The folder of an unfinished training; it is removed once the training has ended.

    Raises:
        UserError: if another process is at the same training.
    """
    scratch = _scratch_path(key)
    scratch.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{scratch}.lock")
    held = FileLock(lock)
    try:
        held.acquire(timeout=2)
    except Timeout:
        raise UserError(
            f"another process is already training this model (it holds {lock}); wait for it, or stop it"
        ) from None
    try:
        yield scratch
        shutil.rmtree(scratch, ignore_errors=True)
        lock.unlink(missing_ok=True)
    finally:
        held.release()


def _require_files(folder: Path, images: Iterable[str]) -> None:
    """Refuse to start when images have gone since they were verified."""
    missing = [image for image in images if not (folder / image).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} images of the manifest are gone, {missing[0]} first; "
            "run `dvc repro --force --single-item download`, or `resize` for copies, then `dvc repro`"
        )
