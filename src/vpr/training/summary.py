"""What a training leaves beside its checkpoints: what follows from its parameters, and what no two runs share.

``training.json`` is an output of DVC, and equal for equal runs. Times, the machine and the commit are kept apart, in
``data/training_logs``, so that a run that is repeated leaves ``dvc.lock`` as it was.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vpr.config.environment import installed_versions
from vpr.config.errors import UserError
from vpr.config.params import PARAMS_FILE, read_params
from vpr.config.project import committed, git_commit, main_root
from vpr.data.checksums import file_sha256
from vpr.training.configuration import RunConfiguration, flat


@dataclass(frozen=True)
class TrainingSummary:
    """What a model was trained on and how: ``training.json``.

    Attributes:
        dataset_digest: of the training manifest.
        descriptor_dim: of the model.
        best_epoch: the epoch of ``best.ckpt``, counted from 1.
        run_key: of the training, see ``vpr.training.run.run_key``; ``None`` where a checkpoint was given.
        checkpoint: the path of the checkpoint that was given.
        num_places, num_images: trained on; 0 where a checkpoint was given.
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
        """Write ``training.json`` beside the checkpoints."""
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
    """What no two runs of a training share; kept by the hash of the best checkpoint.

    Attributes:
        git_commit: the commit that ran, with ``+changes`` if parameters or code differed from it.
        experiment: name of the DVC experiment.
        machine: in words.
        versions: of Python and of each package.
        seconds: of training, validation included.
        images_per_s: trained.
        changes: settings that differ from the commit, such as ``agg: gem instead of cosplace``.
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
        """Commit, experiment, machine and versions as they are now."""
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
        """Keep it for a checkpoint."""
        path = _log_file(best)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def find(cls, best: Path) -> TrainingLog | None:
        """The log of a checkpoint; ``None`` where it was trained on another machine."""
        path = _log_file(best)
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def changed_settings(path: Path = PARAMS_FILE) -> list[str]:
    """The settings of ``params.yaml`` that are not those of the commit."""
    before = yaml.safe_load(committed(path))
    if not isinstance(before, dict):
        return []
    now, then = flat(read_params(path)), flat(before)
    nothing = "nothing"
    return [
        f"{key}: {now.get(key, nothing)} instead of {then.get(key, nothing)}"
        for key in {**then, **now}
        if now.get(key, nothing) != then.get(key, nothing)
    ]


def _log_file(best: Path) -> Path:
    return main_root() / "data" / "training_logs" / f"{file_sha256(best)[:16]}.json"
