"""Train with several processes, called ranks. Each rank has an equal share of a batch; miner and loss see all of it.

In each step, ranks exchange descriptors, labels, batch norm statistics and gradients. Every rank computes the same loss
of the whole batch, and passes back only the gradients of its own descriptors, multiplied by the number of ranks,
because DistributedDataParallel averages over ranks. So the weights change as they would in a single process with the
whole batch. pytorch-metric-learning's own wrapper gathers without gradients, which changes the weights differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Sampler

from vpr.training.batches import PlaceSampler
from vpr.training.cliques import CliqueSampler
from vpr.training.places import PlaceBatch


def num_ranks() -> int:
    """Return the number of processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def own_part(number: int) -> range:
    """Return this rank's part of ``number`` items; parts are contiguous and differ in size by at most one."""
    begin, rest = divmod(number, num_ranks())
    first = rank() * begin + min(rank(), rest)
    return range(first, first + begin + (rank() < rest))


class SharedBatches(Sampler[PlaceBatch]):
    """This rank's share of each batch: some of its places, with all their images."""

    def __init__(self, batches: PlaceSampler | CliqueSampler) -> None:
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; Lightning calls this before each one."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PlaceBatch]:
        per_place = self.batches.images_per_place
        for batch in self.batches:
            places = own_part(self.batches.places_per_batch)
            own = slice(places.start * per_place, places.stop * per_place)
            yield PlaceBatch(batch.images[own], batch.labels[own], batch.draws[own])


def gathered(descriptors: Tensor) -> Tensor:
    """Gather the descriptors of the whole batch from this rank's ``(B, D)``; all ranks have equally many."""
    return descriptors if num_ranks() == 1 else _Gather.apply(descriptors)  # type: ignore[no-any-return, no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        ctx.own = slice(rank() * len(own), (rank() + 1) * len(own))
        return gathered_equal(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0][ctx.own] * num_ranks()


def gathered_equal(own: Tensor) -> Tensor:
    """Gather the rows of all ranks, which have equally many, without gradients."""
    if num_ranks() == 1:
        return own
    parts = [torch.empty_like(own) for _ in range(num_ranks())]
    dist.all_gather(parts, own.contiguous())
    return torch.cat(parts)


def gathered_parts(own: Tensor, number: int) -> Tensor:
    """Gather all ``number`` rows from the ``own_part`` of each rank, without gradients."""
    if num_ranks() == 1:
        return own
    longest = -(-number // num_ranks())
    padded = own.new_zeros((longest, *own.shape[1:]))
    padded[: len(own)] = own
    whole = gathered_equal(padded).view(num_ranks(), longest, *own.shape[1:])
    begin, rest = divmod(number, num_ranks())
    return torch.cat([part[: begin + (k < rest)] for k, part in enumerate(whole)])


class _Sum(torch.autograd.Function):
    """Sums a tensor over the ranks; the losses of all ranks depend on the sum."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class BatchNormOfRanks(_BatchNorm):
    """Batch norm over the images of all ranks on CPUs; torch's ``SyncBatchNorm`` only supports GPUs."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or num_ranks() == 1:
            return super().forward(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        number = num_ranks() * input.numel() // input.shape[1]
        whole = input.float()  # sums in half precision would be too coarse
        mean = _Sum.apply(whole.sum(others)) / number
        centred = whole - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / number
        self._keep_averages(mean.detach(), variance.detach() * number / max(1, number - 1))
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        scaled = normed * self.weight.view(shape) + self.bias.view(shape) if self.affine else normed
        return scaled.to(input.dtype)

    def _keep_averages(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of axes; the second one holds the channels."""


def over_ranks(model: nn.Module) -> nn.Module:
    """Replace each batch norm by ``BatchNormOfRanks`` with the same weights, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, _BatchNorm) and name:
            norm = BatchNormOfRanks(
                module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
            )
            norm.weight, norm.bias = module.weight, module.bias
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(norm, buffer, getattr(module, buffer))
            norm.train(module.training)
            model.set_submodule(name, norm)
    return model
