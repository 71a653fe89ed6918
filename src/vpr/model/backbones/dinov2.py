"""DINOv2: a vision transformer whose patch tokens form the feature map.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024.
https://arxiv.org/abs/2304.07193
The blocks are timm's. Position embeddings are resized as in the authors' code, so that the published weights, and
weights trained from them, give the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vpr.model.backbones.adapters import adapt
from vpr.model.backbones.base import BACKBONES, NUM_STAGES, Backbone, num_kept
from vpr.model.backbones.weights import timm_model, with_file

PATCH_PX = 14
_OFFSET = 0.1  # from the authors' code: without it, rounding did not always give the intended size


class DINOv2(Backbone):
    """Patch embedding and blocks; each of the four stages is a quarter of the blocks.

    Args:
        network: Timm's DINOv2.
        layers_to_crop: Stages to leave out, the last ones.
        layers_to_freeze: ``n`` freezes the embedding and the first ``n`` stages, ``0`` the embedding only, and
            ``None`` nothing.
        trained_blocks: Number of last blocks to train, with everything before them frozen; ``None`` to use
            ``layers_to_freeze``.
        final_norm: Whether the last layer norm is applied.

    Shape:
        images ``(B, 3, H, W)``, both multiples of 14 -> feature map ``(B, out_channels, H / 14, W / 14)``.

    Raises:
        ValueError: if the layers do not fit, or an image's size is not a multiple of 14.
    """

    def __init__(
        self,
        network: Any,
        layers_to_crop: Sequence[int] = (),
        layers_to_freeze: int | None = None,
        trained_blocks: int | None = None,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        kept = num_kept(layers_to_crop, layers_to_freeze)
        size = len(network.blocks) // NUM_STAGES
        self.patch_embed = network.patch_embed.proj
        self.cls_token, self.pos_embed = network.cls_token, network.pos_embed
        self.blocks = nn.ModuleList(network.blocks[: kept * size])
        self.norm = network.norm if final_norm else nn.Identity()
        self.out_channels = int(network.embed_dim)
        num_frozen = 0 if layers_to_freeze is None else layers_to_freeze * size
        if trained_blocks is not None:
            if layers_to_freeze is not None:
                raise ValueError("trained_blocks and layers_to_freeze are both given; set one of them to null")
            if not 0 <= trained_blocks <= len(self.blocks):
                raise ValueError(f"trained_blocks is {trained_blocks}; expected 0 to {len(self.blocks)}, or null")
            num_frozen = len(self.blocks) - trained_blocks
        if layers_to_freeze is not None or trained_blocks is not None:
            self.cls_token.requires_grad_(False)
            self.pos_embed.requires_grad_(False)
            self.freeze([self.patch_embed, *self.blocks[:num_frozen]])

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_with_token(images)[0]

    def forward_with_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        if height % PATCH_PX or width % PATCH_PX:
            raise ValueError(
                f"dinov2 takes image sizes that are multiples of {PATCH_PX}, got {height} x {width}; set image_size to "
                f"[{_nearest(height)}, {_nearest(width)}]"
            )
        rows, columns = height // PATCH_PX, width // PATCH_PX
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], dim=1)
        tokens = tokens + self.positions(rows, columns)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        features = tokens[:, 1:].transpose(1, 2).reshape(images.shape[0], self.out_channels, rows, columns)
        return features, tokens[:, 0]

    def positions(self, rows: int, columns: int) -> Tensor:
        """Return position embeddings ``(1, 1 + rows * columns, out_channels)`` for a map of any size."""
        embedding = self.pos_embed
        side = round((embedding.shape[1] - 1) ** 0.5)
        if (rows, columns) == (side, side):
            return embedding
        grid = embedding[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = ((rows + _OFFSET) / side, (columns + _OFFSET) / side)
        resized = interpolate(grid, scale_factor=scale, mode="bicubic", antialias=False)
        assert resized.shape[-2:] == (rows, columns), "the offset makes rounding give this size"
        flat = resized.permute(0, 2, 3, 1).reshape(1, rows * columns, -1).to(embedding.dtype)
        return torch.cat([embedding[:, :1], flat], dim=1)


def _nearest(size_px: int) -> int:
    return max(1, round(size_px / PATCH_PX)) * PATCH_PX


def _size(name: str) -> Callable[..., nn.Module]:
    def build(
        weights: str | None = None,
        layers_to_crop: Sequence[int] = (),
        layers_to_freeze: int | None = None,
        trained_blocks: int | None = None,
        final_norm: bool = True,
        adapter: str = "none",
        adapter_dim: int = 16,
    ) -> Backbone:
        if adapter != "none" and (trained_blocks is not None or layers_to_freeze is not None):
            raise ValueError("an adapter freezes all other weights: set trained_blocks and layers_to_freeze to null")

        def dinov2(network: Any) -> DINOv2:
            return DINOv2(network, layers_to_crop, layers_to_freeze, trained_blocks, final_norm)

        backbone = with_file(dinov2, timm_model(name, weights), name, weights)
        assert isinstance(backbone, DINOv2), "dinov2 above returns it"
        return adapt(backbone, backbone.blocks, adapter, adapter_dim)

    build.__doc__ = f"timm's {name}; ``imagenet`` stands for its published weights."
    return build


for _name, _network in (
    ("dinov2_vits14", "vit_small_patch14_dinov2.lvd142m"),
    ("dinov2_vitb14", "vit_base_patch14_dinov2.lvd142m"),
    ("dinov2_vitl14", "vit_large_patch14_dinov2.lvd142m"),
):
    BACKBONES.add(_name, _size(_network), "[Oquab 2024](https://arxiv.org/abs/2304.07193)", size_multiple=PATCH_PX)
