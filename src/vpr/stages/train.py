"""Stage ``train``: data/manifest -> data/models/{best,last}.ckpt, metrics/training.csv, validation.csv."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

import vpr
from vpr.configuration import Configuration, build_criterion, build_model, load_configuration
from vpr.datasets.batches import PlaceSampler
from vpr.datasets.checksums import file_sha256
from vpr.datasets.images import Preprocess
from vpr.datasets.manifest import DATABASE, QUERY, Manifest, read_manifest
from vpr.datasets.places import PlaceImages, Places
from vpr.datasets.retrieval_set import ImageList, image_loader, loader_processes
from vpr.evaluation import positives_of
from vpr.extraction import descriptors_now, pick_device
from vpr.initialisation import initialise_clusters
from vpr.model import ModelSpec, load_checkpoint, save_checkpoint
from vpr.params import load_evaluate
from vpr.project import main_root
from vpr.stages import run
from vpr.tracking import TrainingRun, git_commit
from vpr.training import RECALLS, Validation, fit


def run_key(configuration: Configuration, manifests: Sequence[Path], radius_m: float) -> str:
    """Names the scratch folder of a training: other data, parameters or code never resume it."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in manifests))
    digest.update(json.dumps([configuration.as_dict(), radius_m], sort_keys=True, default=str).encode())
    weights = configuration.train.weights
    if weights not in (None, "imagenet"):
        digest.update(Path(str(weights)).read_bytes())
    for source in sorted(Path(vpr.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def validation_of(manifest: Manifest, spec: ModelSpec, configuration: Configuration, radius_m: float) -> Validation:
    """Loaders and positives of the validation set.

    Raises:
        ValueError: if there is no such set, or it has neither coordinates nor places.
    """
    name = configuration.train.val_set
    database, queries = manifest.part(name, DATABASE), manifest.part(name, QUERY)
    positives = positives_of(database, queries, radius_m)
    if positives is None:
        raise ValueError(
            f"params.yaml: train.{configuration.dataset}.val_set {name!r} has neither coordinates nor place ids, so no "
            "recall to choose the best epoch by; name a labelled set"
        )
    preprocess = Preprocess(spec.image_size, spec.mean, spec.std)
    database_loader, query_loader = (
        image_loader(ImageList(manifest.folder, rows["image"], preprocess), 64, configuration.train.num_workers)
        for rows in (database, queries)
    )
    return Validation(database_loader, query_loader, positives)


def require_files(manifest: Manifest, images: Any) -> None:
    """Refuse to start when images have gone since they were verified."""
    missing = [image for image in images if not (manifest.folder / image).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{manifest.folder}: {len(missing)} images of the manifest are gone, {missing[0]} first; "
            "run `dvc repro --force --single-item download`, then `dvc repro`"
        )


def train(manifests: Sequence[Path], models: Path, curve: Path, validations: Path) -> None:
    """Train as ``params.yaml`` says, or take the checkpoint it names, and write checkpoints, curves and facts.

    Args:
        manifests: of the training and of the validation images.
    """
    manifest, validation = (read_manifest(path) for path in manifests)
    configuration = replace(load_configuration(), dataset_options=manifest.notes.get("options", {}))
    facts: dict[str, Any] = {
        "dataset_digest": file_sha256(manifests[0])[:16],
        "git_commit": git_commit(),
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
    }
    if configuration.train.checkpoint is not None:
        history, news = adopt(Path(configuration.train.checkpoint), models)
    else:
        key = run_key(configuration, manifests, load_evaluate().positive_radius_m)
        history, news = train_model(configuration, manifest, validation, key, models, facts)
    for path, rows in ((curve, history[history["loss"].notna()]), (validations, history[history["loss"].isna()])):
        path.parent.mkdir(parents=True, exist_ok=True)
        of_validation = path == validations
        columns = [c for c in rows if c in ("step", "epoch") or c.startswith("val_") == of_validation]
        rows[columns].to_csv(path, index=False)
    (models / "training.json").write_text(json.dumps({**news, **facts}, indent=2) + "\n", encoding="utf-8")


def adopt(checkpoint: Path, models: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Take a checkpoint as it is: it becomes ``best`` and ``last``, and there is no history."""
    model, notes = load_checkpoint(checkpoint)
    for name in ("best", "last"):
        save_checkpoint(models / f"{name}.ckpt", model.spec, model.state_dict(), notes)
    print(f"no training: {checkpoint} is evaluated as it is")
    columns = ["step", "epoch", "loss", *(f"val_recall_at_{n}" for n in RECALLS)]
    return pd.DataFrame(columns=columns), {
        "configuration": notes["configuration"],
        "checkpoint": str(checkpoint),
        "descriptor_dim": model.descriptor_dim,
        "best_epoch": notes["epoch"],
        "seconds": 0.0,
    }


def train_model(
    configuration: Configuration,
    manifest: Manifest,
    validation_manifest: Manifest,
    key: str,
    models: Path,
    facts: dict[str, Any],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train, write the checkpoints, and return history and facts."""
    params, spec = configuration.train, configuration.spec
    radius_m = load_evaluate().positive_radius_m
    model = build_model(configuration)
    rows = manifest.train()
    if rows.empty:
        raise ValueError(
            f"dataset {manifest.name} has no training images; list some with the split train, or name a checkpoint to "
            f"evaluate in train.{configuration.dataset}.checkpoint"
        )
    places = Places(rows, params.min_images_per_place)
    evaluated_as = Preprocess(spec.image_size, spec.mean, spec.std)
    device = pick_device(params.accelerator)

    def describe(chosen: list[int]) -> NDArray[np.float32]:
        images = ImageList(manifest.folder, places.images[chosen], evaluated_as)
        loader = image_loader(images, 64, params.num_workers)
        return descriptors_now(model, loader, (len(chosen), model.descriptor_dim), device)

    sampler = PlaceSampler(
        places,
        params.places_per_batch,
        params.images_per_place,
        params.sample_images == "random",
        params.shuffle_places,
        params.seed,
        params.batches,
        params.min_place_distance_m,
        params.alike_places,
        describe,
    )
    criterion = build_criterion(configuration, model, len(places))
    validation = validation_of(validation_manifest, spec, configuration, radius_m)
    require_files(
        manifest, [*rows["image"], *(image for loader in validation.loaders for image in loader.dataset.images)]
    )
    dataset = PlaceImages(places, manifest.folder, Preprocess(spec.image_size, spec.mean, spec.std, params.augment_ops))
    print(
        f"training on {len(rows):,} images of {len(places):,} places ({places.num_left_out} places have fewer than "
        f"{params.min_images_per_place} images), {len(sampler)} batches an epoch; {spec.backbone} + {spec.aggregator}, "
        f"descriptor {model.descriptor_dim}; {configuration.loss}, {configuration.miner}",
        flush=True,
    )
    scratch = main_root() / "data" / "scratch" / f"train-{key}"
    scratch.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{scratch}.lock")
    try:
        with FileLock(lock, timeout=2), TrainingRun(key, configuration.as_dict(), manifest, facts) as tracked:
            everywhere = ImageList(manifest.folder, rows["image"], evaluated_as)
            initialise_clusters(model, everywhere, device, params.seed)
            trained = fit(
                model,
                criterion,
                dataset,
                sampler,
                validation,
                params,
                loader_processes(params.num_workers),
                scratch,
                tracked.log,
            )
            notes = {"configuration": configuration.as_dict(), "dataset_digest": facts["dataset_digest"]}
            save_checkpoint(models / "best.ckpt", spec, trained.best, {**notes, "epoch": trained.best_epoch})
            save_checkpoint(models / "last.ckpt", spec, trained.last, {**notes, "epoch": params.max_epochs})
            tracked.finish(models / "best.ckpt")
            shutil.rmtree(scratch, ignore_errors=True)
            lock.unlink(missing_ok=True)
    except Timeout:
        raise ValueError(f"another process trains this very model (it holds {lock}); wait for it, or stop it") from None
    return pd.DataFrame(trained.history), {
        "configuration": configuration.as_dict(),
        "run_key": key,
        "num_places": len(places),
        "num_images": len(rows),
        "descriptor_dim": model.descriptor_dim,
        "best_epoch": trained.best_epoch,
        "seconds": round(trained.seconds, 1),
        "images_per_s": round(trained.num_images / max(1e-9, trained.seconds), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="of the training images")
    parser.add_argument("--validation-manifest", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--validations", type=Path, required=True)
    args = parser.parse_args()
    try:
        train((args.manifest, args.validation_manifest), args.models, args.curve, args.validations)
    except KeyboardInterrupt:
        sys.exit("train: interrupted; the next `dvc repro` goes on after the last finished epoch")


if __name__ == "__main__":
    run(main)
