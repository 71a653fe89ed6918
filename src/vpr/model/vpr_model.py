"""``VPRModel``: a backbone, an aggregator and, optionally, a projection."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vpr.config.errors import UserError
from vpr.model.aggregators import build_aggregator
from vpr.model.allocations import limited_allocations
from vpr.model.backbones import build_backbone
from vpr.model.projection import Projection
from vpr.model.spec import ModelSpec


class VPRModel(nn.Module):
    """Maps images ``(B, 3, H, W)`` to descriptors ``(B, descriptor_dim)``, rows of unit L2 norm.

    Images are uint8 pixels, or floating-point numbers that are already normalised.

    Args:
        spec: Specification of the model.
        weights: Starting weights of the backbone: ``None``, ``"imagenet"`` or the path of a state dict.

    Raises:
        UserError: for an unknown name or a refused option, or a model that does not fit in the machine's memory.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, weights: str | None = None) -> None:
        super().__init__()
        self.spec = spec
        with limited_allocations():
            backbone = build_backbone(spec.backbone, weights, **spec.backbone_options)
            map_size = feature_map_size(backbone, spec.image_size)
            aggregator = build_aggregator(spec.aggregator, backbone.out_channels, map_size, **spec.aggregator_options)
            self.descriptor_dim = aggregator.descriptor_dim
            self.backbone, self.aggregator = backbone, aggregator
            self.projection: nn.Module = nn.Identity()
            if spec.pca_dim is not None:
                self.projection = Projection(self.descriptor_dim, spec.pca_dim)
                self.descriptor_dim = spec.pca_dim
        # The spec holds these values, so the state dict does not.
        self.register_buffer("mean", torch.tensor(spec.mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Scale uint8 pixels to [0, 1] and normalise them; return other images unchanged."""
        if images.dtype != torch.uint8:
            return images
        scaled = images.to(torch.float32, memory_format=torch.channels_last)
        # The rows share the memory of the images. Working on long rows is far faster than on three values at a time.
        rows = scaled.permute(0, 2, 3, 1).flatten(2)
        width = images.shape[-1]
        rows.sub_(255 * self.mean.repeat(width)).div_(255 * self.std.repeat(width))
        return scaled

    def forward(self, images: Tensor) -> Tensor:
        images = self.normalised(images)
        if self.aggregator.wants_token:
            return self.describe(*self.backbone.forward_with_token(images))
        return self.describe(self.backbone(images), None)

    def describe(self, features: Tensor, token: Tensor | None) -> Tensor:
        """Aggregate a feature map ``(B, C, h, w)``, and a token ``(B, C)`` if the aggregator takes one."""
        aggregated = self.aggregator(features, token) if self.aggregator.wants_token else self.aggregator(features)
        descriptors: Tensor = self.projection(aggregated)
        return descriptors


def feature_map_size(backbone: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the feature map for an image of ``image_size``.

    Raises:
        UserError: if the backbone does not accept images of that size.
    """
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            height, width = backbone(torch.zeros(1, 3, *image_size)).shape[-2:]
    except (AssertionError, RuntimeError, ValueError) as error:  # libraries raise different kinds
        raise UserError(
            f"the backbone does not accept images of {image_size[0]} x {image_size[1]}: {str(error)[:200]}; choose "
            "another image_size"
        ) from None
    finally:
        backbone.train(was_training)
    return int(height), int(width)


def at_image_size(model: VPRModel, image_size: tuple[int, int], where: str) -> VPRModel:
    """Return a model with the same weights for images of another size, in evaluation mode.

    Args:
        model: The model.
        image_size: Height and width in pixels.
        where: Key that asks for the size, for messages.

    Raises:
        UserError: if the model cannot take the other size; the message names both sizes.
    """
    (old_height, old_width), (height, width) = model.spec.image_size, image_size
    sizes = f"params.yaml: {where} is {height} x {width} and the model was trained at {old_height} x {old_width}"
    try:
        resized = VPRModel(replace(model.spec, image_size=image_size)).eval()
    except UserError as error:
        raise UserError(f"{sizes}: {error}") from None
    fixed = [m.aggregator.fixed_map_size for m in (model, resized)]
    if fixed[0] != fixed[1]:
        raise UserError(
            f"{sizes}: {model.spec.aggregator} was trained for a feature map of {fixed[0]} and cannot take one of "
            f"{fixed[1]}; set it to null, or train a model at the other size"
        )
    try:
        resized.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise UserError(f"{sizes}: its weights fit one size only: {error}") from None
    return resized
