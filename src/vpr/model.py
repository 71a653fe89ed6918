"""``VPRModel``: a backbone, then an aggregator; and its checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vpr.aggregators import build_aggregator
from vpr.backbones import build_backbone

CHECKPOINT_FORMAT = 1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model again.

    Args:
        backbone, aggregator: names, with their options beside them.
        image_size: height and width, in pixels, that images are resized to.
        mean, std: by which each colour channel in [0, 1] is normalised.
    """

    backbone: str
    backbone_options: dict[str, Any]
    aggregator: str
    aggregator_options: dict[str, Any]
    image_size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class VPRModel(nn.Module):
    """Normalised images ``(B, 3, H, W)`` -> descriptors ``(B, descriptor_dim)``, rows of unit L2 norm.

    Args:
        spec: what to build.
        weights: of the backbone: ``None``, ``"imagenet"`` or the path of a state dict.
    """

    def __init__(self, spec: ModelSpec, weights: str | None = None) -> None:
        super().__init__()
        self.spec = spec
        backbone: Any = build_backbone(spec.backbone, weights, **spec.backbone_options)
        channels = int(backbone.out_channels)
        aggregator: Any = build_aggregator(
            spec.aggregator, channels, feature_map_size(backbone, spec.image_size), **spec.aggregator_options
        )
        self.descriptor_dim = int(aggregator.descriptor_dim)
        self.backbone, self.aggregator = backbone, aggregator
        self.wants_token = bool(getattr(aggregator, "wants_token", False))

    def forward(self, images: Tensor) -> Tensor:
        if not self.wants_token:
            descriptors: Tensor = self.aggregator(self.backbone(images))
            return descriptors
        if self.backbone.has_token:
            features, token = self.backbone.forward_with_token(images)
        else:
            features = self.backbone(images)
            token = features.mean(dim=(-2, -1))
        with_token: Tensor = self.aggregator(features, token)
        return with_token


def feature_map_size(backbone: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the feature map of an image of ``image_size``."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            height, width = backbone(torch.zeros(1, 3, *image_size)).shape[-2:]
    finally:
        backbone.train(was_training)
    return int(height), int(width)


def save_checkpoint(path: Path, spec: ModelSpec, state_dict: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """Write a checkpoint of plain types: it loads with ``weights_only=True``.

    Args:
        notes: what the model was trained with; kept, not interpreted.
    """
    content = {
        "format": CHECKPOINT_FORMAT,
        "spec": asdict(spec),
        "state_dict": {name: value.detach().cpu().contiguous() for name, value in state_dict.items()},
        "notes": notes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(content, part)
    part.replace(path)


def load_checkpoint(path: Path) -> tuple[VPRModel, dict[str, Any]]:
    """A model in evaluation mode, and the notes it was saved with.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no checkpoint of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no checkpoint; run `dvc repro train` first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no checkpoint fails in many ways
        raise ValueError(f"{path}: not a checkpoint of this project: {str(error)[:200]}") from None
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path}: not a checkpoint of format {CHECKPOINT_FORMAT} of this project")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["spec"].items()}
    spec = ModelSpec(**fields)
    model = VPRModel(spec)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the model of the checkpoint: {error}") from None
    return model.eval(), content["notes"]
