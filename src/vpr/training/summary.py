"""Facts about a finished training.

``training.json`` is an output of DVC and the same for the same parameters. Times, machine and commit differ between
runs, so they are kept in ``data/training_logs``, and a repeated run leaves ``dvc.lock`` unchanged.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError
from vpr.config.installed_versions import installed_versions
from vpr.config.params import PARAMS_FILE, read_yaml
from vpr.config.project import committed, git_commit, main_root
from vpr.data.checksums import file_sha256
from vpr.training.configuration import RunConfiguration, flat


@dataclass(frozen=True)
class TrainingSummary:
    """Content of ``training.json``: what a model was trained on, and how.

    Attributes:
        configuration: Configuration of the training.
        dataset_digest: Digest of the training manifest.
        descriptor_dim: Dimension of the model's descriptors.
        best_epoch: Epoch of ``best.ckpt``, counted from 1.
        run_key: Key of the training, see ``vpr.training.run.run_key``; ``None`` if a checkpoint was used.
        checkpoint: Path of the checkpoint that was used instead of a training, or ``untrained``.
        num_places, num_images: Number of training places and images; 0 if a checkpoint was used.
    """

    configuration: RunConfiguration
    dataset_digest: str
    descriptor_dim: int
    best_epoch: int
    run_key: str | None = None
    checkpoint: str | None = None
    num_places: int = 0
    num_images: int = 0

    def save(self, models: Path) -> None:
        """Write ``training.json`` into the folder of the checkpoints."""
        content = {**asdict(self), "configuration": self.configuration.as_dict()}
        (models / "training.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, models: Path) -> TrainingSummary:
        """Read what ``save`` wrote.

        Raises:
            UserError: if the train stage has not run.
        """
        path = models / "training.json"
        if not path.is_file():
            raise UserError(f"{path}: not found; run `dvc repro train` first")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "configuration": RunConfiguration.from_dict(content["configuration"])})


@dataclass(frozen=True)
class TrainingLog:
    """Facts that differ between two runs of the same training; stored by the hash of the best checkpoint.

    Attributes:
        git_commit: Commit that ran, with ``+changes`` if parameters or code differed from it.
        experiment: Name of the DVC experiment.
        machine: Machine in words.
        versions: Versions of Python and of each package.
        seconds: Duration of the training, with validation.
        images_per_s: Training images per second.
        changes: Settings that differ from the commit, such as ``agg: gem instead of cosplace``.
    """

    git_commit: str = "unknown"
    experiment: str | None = None
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    images_per_s: float = 0.0
    changes: list[str] = field(default_factory=list)

    @classmethod
    def of_this_process(cls, seconds: float = 0.0, images_per_s: float = 0.0) -> TrainingLog:
        """Return the current commit, experiment, machine and versions."""
        import torch

        gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
        return cls(
            git_commit(),
            os.environ.get("DVC_EXP_NAME"),
            f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}",
            installed_versions(),
            seconds,
            images_per_s,
            changed_settings(),
        )

    def save(self, best: Path) -> None:
        """Store the log of a checkpoint."""
        with atomic_write(_log_file(best)) as part:
            part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def find(cls, best: Path) -> TrainingLog | None:
        """Return the log of a checkpoint; ``None`` if it was trained on another machine."""
        path = _log_file(best)
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def changed_settings(path: Path = PARAMS_FILE) -> list[str]:
    """List the settings of ``params.yaml`` that differ from the commit's."""
    before = yaml.safe_load(committed(path))
    if not isinstance(before, dict):
        return []
    now, then = flat(read_yaml(path)), flat(before)
    nothing = "nothing"
    return [
        f"{key}: {now.get(key, nothing)} instead of {then.get(key, nothing)}"
        for key in {**then, **now}
        if now.get(key, nothing) != then.get(key, nothing)
    ]


def _log_file(best: Path) -> Path:
    return main_root() / "data" / "training_logs" / f"{file_sha256(best)[:16]}.json"
