"""Adapters: a few trained weights beside the frozen weights of a transformer.

``lora``: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
https://arxiv.org/abs/2106.09685, on the projection of queries, keys and values. ``parallel``: a bottleneck beside each
MLP, Chen et al., "AdaptFormer", NeurIPS 2022, https://arxiv.org/abs/2205.13535; for place recognition Lu et al.,
"Towards Seamless Adaptation of Pre-trained Models for Visual Place Recognition", ICLR 2024,
https://arxiv.org/abs/2402.14505. Both add 0 at first, so that the network starts unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vpr.model.backbones.base import Backbone

KINDS = ("none", "lora", "parallel")
_PROJECTIONS = ("qkv", "q_proj", "k_proj", "v_proj")
PARALLEL_SCALE = 0.2  # factor of the bottleneck's output, as in the ICLR 2024 paper


class LowRank(nn.Module):
    """A frozen linear layer, plus the product of two small ones.

    Args:
        base: The frozen layer.
        rank: Rank of the product, which has ``rank * (in + out)`` weights.
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        adapted: Tensor = self.base(tokens) + self.up(self.down(tokens))
        return adapted


class Parallel(nn.Module):
    """A frozen MLP, plus a bottleneck beside it.

    Args:
        base: The frozen MLP.
        width: Size of its tokens.
        dim: Width of the bottleneck.
    """

    def __init__(self, base: nn.Module, width: int, dim: int) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(width, dim), nn.Linear(dim, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        adapted: Tensor = self.base(tokens) + PARALLEL_SCALE * self.up(torch.relu(self.down(tokens)))
        return adapted


def adapt(backbone: Backbone, blocks: Iterable[nn.Module], kind: str, dim: int) -> Backbone:
    """Freeze a backbone and add an adapter to each of its blocks, in place.

    Args:
        backbone: The backbone.
        blocks: Blocks of the backbone, each with ``attn`` and ``mlp``.
        kind: One of ``KINDS``; ``none`` leaves the backbone unchanged.
        dim: Rank, or width of the bottleneck.

    Raises:
        ValueError: for an unknown kind, or a network without such blocks.
    """
    if kind not in KINDS:
        raise ValueError(f"adapter is {kind!r}; expected one of {', '.join(KINDS)}")
    if kind == "none":
        return backbone
    if dim < 1:
        raise ValueError(f"adapter_dim is {dim}; expected at least 1")
    blocks = list(blocks)
    if not blocks or not all(hasattr(block, "attn") and hasattr(block, "mlp") for block in blocks):
        raise ValueError(f"adapter is {kind!r}, and the network has no blocks of attention and MLP; set it to none")
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    backbone.freeze(backbone.children())
    for block in blocks:
        if kind == "parallel":
            mlp = block.get_submodule("mlp")
            block.mlp = Parallel(mlp, _width(mlp), dim)
            continue
        for name in _PROJECTIONS:
            base = getattr(block.attn, name, None)
            if isinstance(base, nn.Linear):
                setattr(block.attn, name, LowRank(base, dim))
    return backbone


def _width(mlp: nn.Module) -> int:
    return next(int(module.in_features) for module in mlp.modules() if isinstance(module, nn.Linear))
