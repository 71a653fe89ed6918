"""``VPRModel``: a backbone, then an aggregator; and its checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vpr.aggregators import build_aggregator
from vpr.backbones import build_backbone
from vpr.projection import Projection

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
        pca_dim: size of the descriptors after PCA as the last step; ``None`` for none.
    """

    backbone: str
    backbone_options: dict[str, Any]
    aggregator: str
    aggregator_options: dict[str, Any]
    image_size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pca_dim: int | None = None


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
        self.projection: nn.Module = nn.Identity()
        if spec.pca_dim is not None:
            self.projection = Projection(self.descriptor_dim, spec.pca_dim)
            self.descriptor_dim = spec.pca_dim

    def forward(self, images: Tensor) -> Tensor:
        if getattr(self.aggregator, "wants_token", False):
            descriptors: Tensor = self.aggregator(*self.backbone.forward_with_token(images))
        else:
            descriptors = self.aggregator(self.backbone(images))
        projected: Tensor = self.projection(descriptors)
        return projected


def feature_map_size(backbone: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the feature map of an image of ``image_size``.

    Raises:
        ValueError: if the backbone takes no images of that size.
    """
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            height, width = backbone(torch.zeros(1, 3, *image_size)).shape[-2:]
    except (AssertionError, RuntimeError) as error:  # the library's
        raise ValueError(
            f"the backbone takes no images of {image_size[0]} x {image_size[1]}: {str(error)[:200]}; choose another "
            "image_size"
        ) from None
    finally:
        backbone.train(was_training)
    return int(height), int(width)


def at_image_size(model: VPRModel, image_size: tuple[int, int], where: str) -> VPRModel:
    """The same weights for images of another size, in evaluation mode.

    Args:
        image_size: height and width in pixels.
        where: the key that asks for it, for messages.

    Raises:
        ValueError: if the model takes no other size, with both sizes.
    """
    (old_height, old_width), (height, width) = model.spec.image_size, image_size
    told = f"params.yaml: {where} is {height} x {width} and the model was trained at {old_height} x {old_width}"
    try:
        resized = VPRModel(replace(model.spec, image_size=image_size)).eval()
    except ValueError as error:
        raise ValueError(f"{told}: {error}") from None
    fixed = [getattr(m.aggregator, "map_size", None) for m in (model, resized)]
    if fixed[0] != fixed[1]:
        raise ValueError(
            f"{told}: {model.spec.aggregator} has weights for a feature map of {fixed[0]} alone, not of {fixed[1]}; "
            "set it to null, or train a model at the other size"
        )
    try:
        resized.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ValueError(f"{told}: its weights are for one size alone: {error}") from None
    return resized


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
