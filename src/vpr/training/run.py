"""Train a model from manifests to checkpoints. An interrupted training continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
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
from vpr.data.checksums import file_sha256
from vpr.data.images import as_spelled
from vpr.data.loading import ImageList, loader_processes
from vpr.data.manifest import Manifest, read_manifest
from vpr.data.resized import Resized
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.describing import Describer
from vpr.model.device import pick_device
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

# Folders whose code decides the result of a training; the train stage depends on them in dvc.yaml.
CODE = ("config", "data", "retrieval", "model", "training")


class Tracker(Protocol):
    """Receives the progress of a training."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Add a row of the training curve."""

    def finish(self, best: Path) -> None:
        """Receive the checkpoint of the finished training."""


Track = Callable[[str, RunConfiguration, Manifest, str, TrainingLog], AbstractContextManager[Tracker]]


@dataclass(frozen=True)
class TrainingData:
    """The data that a training depends on.

    Attributes:
        manifest: Manifest of the training images.
        validation: Manifest of the validation set.
        resized: Copies of the training images at the training size, if there are any.
        radius_m: Distance in metres within which a database image is a positive.
        files: Files that ``manifest``, ``validation`` and ``resized`` were read from.
    """

    manifest: Manifest
    validation: Manifest
    resized: Resized
    radius_m: float
    files: tuple[Path, Path, Path]

    @classmethod
    def read(cls, manifest: Path, validation: Path, resized: Path, radius_m: float) -> TrainingData:
        """Read the files."""
        parts = read_manifest(manifest), read_manifest(validation), Resized.load(resized)
        return cls(*parts, radius_m, (manifest, validation, resized))

    @cached_property
    def digest(self) -> str:
        """Digest of the training manifest."""
        return file_sha256(self.files[0])[:16]


def run_key(configuration: RunConfiguration, data: TrainingData) -> str:
    """Return a key of everything that decides the result of a training.

    An interrupted training resumes if its key is the same. The key does not depend on the number of devices.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in data.files))
    content = configuration.as_dict()
    content["train"] = {key: value for key, value in content["train"].items() if key not in ("devices", "num_nodes")}
    digest.update(json.dumps([content, data.radius_m], sort_keys=True, default=str).encode())
    weights = configuration.settings.weights
    if weights not in (None, "imagenet"):
        digest.update(Path(str(weights)).read_bytes())
    package = Path(vpr.__file__).parent
    for source in sorted(file for folder in CODE for file in (package / folder).rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def use_checkpoint(checkpoint: Path, models: Path, digest: str) -> tuple[pd.DataFrame, TrainingSummary]:
    """Use a checkpoint instead of training: it becomes ``best.ckpt`` and ``last.ckpt``, with an empty history.

    Args:
        checkpoint: Checkpoint of this project.
        models: Folder for the checkpoints.
        digest: Digest of the training manifest.

    Raises:
        UserError: if the file is not a checkpoint, or does not say what the model was trained with.
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
    print(f"no training: {checkpoint} is evaluated")
    summary = TrainingSummary(configuration, digest, model.descriptor_dim, epoch, checkpoint=str(checkpoint))
    return _without_history(summary, models)


def use_untrained(configuration: RunConfiguration, models: Path, digest: str) -> tuple[pd.DataFrame, TrainingSummary]:
    """Use the initial model, with random clusters, instead of training; the history is empty.

    Args:
        configuration: Configuration of the model.
        models: Folder for the checkpoints.
        digest: Digest of the training manifest.
    """
    model = build_model(configuration, configuration.settings.weights)
    metadata = {"configuration": configuration.as_dict(), "dataset_digest": digest, "epoch": 0}
    for name in ("best", "last"):
        save_checkpoint(models / f"{name}.ckpt", model.spec, model.state_dict(), metadata)
    print("no training: the initial model is evaluated")
    summary = TrainingSummary(configuration, digest, model.descriptor_dim, 0, checkpoint=UNTRAINED)
    return _without_history(summary, models)


def _without_history(summary: TrainingSummary, models: Path) -> tuple[pd.DataFrame, TrainingSummary]:
    TrainingLog.of_this_process().save(models / "best.ckpt")
    return pd.DataFrame(columns=["step", "epoch", "loss"]), summary


def train_model(
    configuration: RunConfiguration, data: TrainingData, models: Path, track: Track
) -> tuple[pd.DataFrame, TrainingSummary] | None:
    """Train a model and write its checkpoints.

    Args:
        configuration: Configuration of the training.
        data: Images to train and validate on.
        models: Folder for ``best.ckpt`` and ``last.ckpt``.
        track: Function that returns the tracker of the run.

    Returns:
        The history and the summary; ``None`` on every rank but the first.

    Raises:
        UserError: if there is nothing to train on, or it cannot fit.
    """
    settings, spec = configuration.settings, configuration.spec
    model = build_model(configuration, settings.weights)
    rows = data.manifest.train()
    if rows.empty:
        raise UserError(
            f"dataset {data.manifest.name} has no training images; list some with the split train, or set "
            "train.checkpoint to a checkpoint to evaluate"
        )
    places = Places(rows, settings.min_images_per_place)
    device = pick_device(settings.accelerator)

    images = ImageList(*data.resized.locate(data.manifest, rows["image"]), spec.preprocess())
    describe = describe_by(model, images, device, settings)
    sampler: PlaceSampler | CliqueSampler
    if settings.batches == "cliques":
        sampler = CliqueSampler(rows, settings, describe)
    else:
        sampler = PlaceSampler(places, settings, describe)
    criterion = build_criterion(configuration, model.descriptor_dim, len(places))
    validation = validation_of(data.validation, spec, settings, data.radius_m)
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
    from vpr.training.loop import fit  # Lightning takes seconds to import, so errors are found first

    key = run_key(configuration, data)
    log = TrainingLog.of_this_process()
    kept = [] if settings.decode_on_gpu else [images]
    dataset = PlaceImages(images, augment=device.type == "cpu", decode=not settings.decode_on_gpu)

    def train(scratch: Path, report: Report) -> Trained:
        keep_decoded(
            settings.cache_gb, workers, settings.devices, *kept, *(loader.dataset for loader in validation.loaders)
        )
        return fit(model, criterion, dataset, sampler, validation, settings, workers, scratch, report)

    if not is_first_rank():  # it receives the weights of the first rank
        train(_scratch_path(key), _say_nothing)
        return None
    with scratch_folder(key) as scratch, track(key, configuration, data.manifest, data.digest, log) as tracker:
        initialise_clusters(model, images, device, settings.seed)
        trained = train(scratch, tracker.log)
        save_models(trained, configuration, data.digest, models)
        rate = trained.num_images / max(1e-9, trained.seconds)
        TrainingLog.of_this_process(round(trained.seconds, 1), round(rate, 1)).save(models / "best.ckpt")
        tracker.finish(models / "best.ckpt")
    summary = TrainingSummary(
        configuration,
        data.digest,
        model.descriptor_dim,
        trained.best_epoch,
        run_key=key,
        num_places=len(places),
        num_images=len(rows),
    )
    return pd.DataFrame(trained.history), summary


def weights_in_words(model: VPRModel) -> str:
    """Return the number of trained weights and of all weights in words."""
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    total = sum(weight.numel() for weight in weights)
    return f"{trained / 1e6:.2f} M of {total / 1e6:.2f} M weights trained"


def _say_nothing(*_: Any) -> None:
    """Print and report nothing, on ranks other than the first."""


def keep_decoded(cache_gb: float | None, num_workers: int, ranks: int, *lists: ImageList) -> None:
    """Keep decoded images in memory, those of the first list before those of the next.

    Args:
        cache_gb: Memory to use, see ``train.cache_gb``.
        num_workers: Number of loader processes.
        ranks: Number of ranks on this machine, which share its memory.
        lists: Images that are read again and again.
    """
    half = psutil.virtual_memory().available / 2
    left = (half if cache_gb is None else min(half, cache_gb * GIB)) / ranks
    for images in lists:
        left -= images.keep_decoded(left, num_workers)


def save_models(trained: Trained, configuration: RunConfiguration, digest: str, models: Path) -> None:
    """Write ``best.ckpt`` and ``last.ckpt`` into the folder ``models``."""
    metadata: dict[str, Any] = {"configuration": configuration.as_dict(), "dataset_digest": digest}
    epochs = {"best": trained.best_epoch, "last": configuration.settings.max_epochs}
    for name, state in (("best", trained.best), ("last", trained.last)):
        save_checkpoint(models / f"{name}.ckpt", configuration.spec, state, {**metadata, "epoch": epochs[name]})


def _scratch_path(key: str) -> Path:
    return main_root() / "data" / "scratch" / f"train-{key}"


def describe_by(
    model: VPRModel, images: ImageList, device: torch.device, settings: TrainParams
) -> Callable[[list[int]], NDArray[np.float32]]:
    """Return a function that describes training images with the current weights; ranks share the work."""

    def describe(chosen: list[int]) -> NDArray[np.float32]:
        own = own_part(len(chosen))
        shown: Any = Subset(images, chosen[own.start : own.stop])
        out = np.empty((len(own), model.descriptor_dim), dtype=np.float32)
        Describer(model, device).describe(
            shown, out, settings.val_batch_size, settings.num_workers, "looking for similar places"
        )
        of_all: NDArray[np.float32] = gathered_parts(torch.from_numpy(out).to(device), len(chosen)).cpu().numpy()
        return of_all

    return describe


@contextmanager
def scratch_folder(key: str) -> Iterator[Path]:
    """Yield the folder of an unfinished training; it is removed when the training has finished.

    Raises:
        UserError: if another process is running the same training.
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
    """Refuse to start if images have disappeared since they were verified."""
    missing = [image for image in images if not as_spelled(folder / image).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} images of the manifest are missing, {missing[0]} first; "
            "run `dvc repro --force --single-item download`, or `resize` for copies, then `dvc repro`"
        )
