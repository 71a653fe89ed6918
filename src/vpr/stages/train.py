"""Stage ``train``: data/manifest.parquet -> data/models/{best,last}.ckpt, metrics/training.csv, validation.csv."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from filelock import FileLock, Timeout

import vpr
from vpr.configuration import Configuration, build_criterion, build_model, load_configuration
from vpr.datasets.images import Preprocess
from vpr.datasets.manifest import DATABASE, QUERY, Manifest, read_manifest
from vpr.datasets.places import PlaceImages, Places, PlaceSampler
from vpr.datasets.retrieval_set import ImageList, image_loader, loader_processes
from vpr.evaluation import positives_of
from vpr.model import ModelSpec, save_checkpoint
from vpr.params import EvaluateParams, load_section
from vpr.project import main_root
from vpr.tracking import TrainingRun, git_commit
from vpr.training import Validation, fit


def run_key(configuration: Configuration, manifest_path: Path) -> str:
    """Names the scratch folder of a training: other data, parameters or code never resume it."""
    digest = hashlib.sha256(manifest_path.read_bytes())
    digest.update(json.dumps(configuration.as_dict(), sort_keys=True, default=str).encode())
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
            "run `dvc repro --force download verify`"
        )


def train(manifest_path: Path, models: Path, curve: Path, validations: Path) -> None:
    """Train as ``params.yaml`` says, and write checkpoints, curves and facts."""
    configuration = load_configuration()
    params, spec = configuration.train, configuration.spec
    radius_m = load_section("evaluate", EvaluateParams).positive_radius_m
    model = build_model(configuration)
    manifest = read_manifest(manifest_path)
    rows = manifest.train()
    places = Places(rows, params.min_images_per_place)
    sampler = PlaceSampler(
        places,
        params.places_per_batch,
        params.images_per_place,
        params.sample_images == "random",
        params.shuffle_places,
        params.seed,
    )
    criterion = build_criterion(configuration, model, len(places))
    validation = validation_of(manifest, spec, configuration, radius_m)
    require_files(manifest, rows["image"])
    dataset = PlaceImages(places, manifest.folder, Preprocess(spec.image_size, spec.mean, spec.std, params.augment_ops))
    print(
        f"training on {len(rows):,} images of {len(places):,} places ({places.num_left_out} places have fewer than "
        f"{params.min_images_per_place} images), {len(sampler)} batches an epoch; {spec.backbone} + {spec.aggregator}, "
        f"descriptor {model.descriptor_dim}; {configuration.loss}, {configuration.miner}",
        flush=True,
    )
    key = run_key(configuration, manifest_path)
    scratch = main_root() / "data" / "scratch" / f"train-{key}"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with (
            FileLock(f"{scratch}.lock", timeout=2),
            TrainingRun(key, configuration.as_dict(), manifest, manifest_path) as run,
        ):
            trained = fit(
                model,
                criterion,
                dataset,
                sampler,
                validation,
                params,
                loader_processes(params.num_workers),
                scratch,
                run.log,
            )
            notes = {"configuration": configuration.as_dict(), "dataset_digest": manifest_digest(manifest_path)}
            save_checkpoint(models / "best.ckpt", spec, trained.best, {**notes, "epoch": trained.best_epoch})
            save_checkpoint(models / "last.ckpt", spec, trained.last, {**notes, "epoch": params.max_epochs})
            run.finish(models / "best.ckpt")
    except Timeout:
        sys.exit(f"train: another process trains this very model (lock {scratch}.lock); wait for it, or stop it")
    curve.parent.mkdir(parents=True, exist_ok=True)
    history = pd.DataFrame(trained.history)
    recalls = [c for c in history if c.startswith("val_")]
    history[history["loss"].notna()].drop(columns=recalls).to_csv(curve, index=False)
    history.loc[history["loss"].isna(), ["step", "epoch", *recalls]].to_csv(validations, index=False)
    facts = {
        "configuration": configuration.as_dict(),
        "dataset_digest": manifest_digest(manifest_path),
        "num_places": len(places),
        "num_images": len(rows),
        "descriptor_dim": model.descriptor_dim,
        "best_epoch": trained.best_epoch,
        "seconds": round(trained.seconds, 1),
        "images_per_s": round(trained.num_images / max(1e-9, trained.seconds), 1),
        "git_commit": git_commit(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
    }
    (models / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(scratch, ignore_errors=True)


def manifest_digest(path: Path) -> str:
    """Names a manifest's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--validations", type=Path, required=True)
    args = parser.parse_args()
    try:
        train(args.manifest, args.models, args.curve, args.validations)
    except KeyboardInterrupt:
        sys.exit("train: interrupted; the next `dvc repro` goes on after the last finished epoch")


if __name__ == "__main__":
    main()
