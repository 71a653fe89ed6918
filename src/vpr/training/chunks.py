"""Batches larger than memory: the model processes a batch in chunks, while the loss sees the whole batch.

This is the gradient caching of Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021, https://arxiv.org/abs/2101.06983: the activations of a chunk are discarded, and computed again when the
gradients of its descriptors are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def in_chunks(model: nn.Module, images: Tensor, images_per_forward: int | None) -> Tensor:
    """Return descriptors ``(B, D)`` of images ``(B, 3, H, W)``, with the same gradients as a single pass.

    Batch norm uses the statistics of each chunk, so that a model with batch norm does differ from a single pass. Its
    running averages see each chunk once.

    Args:
        model: The model.
        images: The batch.
        images_per_forward: Size of a chunk; ``None`` for a single pass.
    """
    if images_per_forward is None or images_per_forward >= len(images):
        descriptors: Tensor = model(images)
        return descriptors

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unchanged_running_averages(model)

    chunks = images.split(images_per_forward)  # type: ignore[no-untyped-call]
    return torch.cat([checkpoint(model, chunk, use_reentrant=False, context_fn=contexts) for chunk in chunks])


@contextmanager
def _unchanged_running_averages(model: nn.Module) -> Iterator[None]:
    """Keep running averages unchanged during a pass that repeats an earlier one."""
    before = [
        (norm, norm.momentum, norm.num_batches_tracked)
        for norm in model.modules()
        if isinstance(norm, _BatchNorm) and norm.num_batches_tracked is not None
    ]
    for norm, _, batches in before:
        norm.momentum, norm.num_batches_tracked = 0.0, batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches
