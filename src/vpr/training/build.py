"""Build what is trained from its configuration, and refuse what cannot work before any long work starts."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from vpr.config.errors import UserError
from vpr.data.images import jpeg_decoder
from vpr.model.checkpoint import load_checkpoint
from vpr.model.device import pick_device
from vpr.model.vpr_model import VPRModel
from vpr.training.configuration import Named, RunConfiguration
from vpr.training.criterion import Criterion
from vpr.training.losses import build_loss
from vpr.training.memory import GIB, check_memory
from vpr.training.params import UNTRAINED, TrainParams, place_of


def build_model(configuration: RunConfiguration, weights: str | None) -> VPRModel:
    """The model with its starting weights; random ones follow from the seed.

    Args:
        weights: of the backbone, see ``train.weights``.
    """
    torch.manual_seed(configuration.settings.seed)
    return VPRModel(configuration.spec, weights)


def build_criterion(configuration: RunConfiguration, descriptor_dim: int, num_places: int) -> Criterion:
    """Miner and loss, refused if they, or the weights that the loss has for each place, cannot fit in memory.

    Args:
        descriptor_dim: of the model.
        num_places: in the training set.
    """
    train, loss, miner = configuration.settings, configuration.loss, configuration.miner
    limit = memory_bytes(train)
    check_memory(
        loss.name,
        miner.name,
        train.places_per_batch,
        train.images_per_place,
        descriptor_dim,
        limit,
        train.memory_size,
    )
    num_weights = num_own_weights(loss, descriptor_dim, num_places)
    if train.batches == "cliques" and num_weights > num_own_weights(loss, descriptor_dim, 2) and num_places > 2:
        raise UserError(
            f"{loss.name} learns weights for each place, and batches are cliques, which are new places every time; "
            "choose another loss or other batches"
        )
    needed = 16 * num_weights  # weights, gradients and two averages of Adam, in float32
    if needed > limit:
        raise UserError(
            f"{loss.name} has {num_weights:,} weights of its own for {num_places:,} places and descriptors of "
            f"{descriptor_dim}: {needed / GIB:,.1f} GiB with gradients and averages, the device has "
            f"{limit / GIB:,.1f} GiB; choose another loss or smaller descriptors, or set max_memory_gb"
        )
    return Criterion(loss.name, loss.options, miner.name, miner.options, descriptor_dim, num_places, train.memory_size)


def num_own_weights(loss: Named, descriptor_dim: int, num_places: int) -> int:
    """Weights that a loss learns itself, which grow linearly with the places; no large tensor is made to count them."""
    two, three = (
        sum(p.numel() for p in build_loss(loss.name, descriptor_dim, places, **loss.options).parameters())
        for places in (2, 3)
    )
    return two + (num_places - 2) * (three - two)


def try_criterion(criterion: Criterion, descriptor_dim: int) -> None:
    """One step on random descriptors, which finds options that only fail when used.

    Raises:
        UserError: with what the loss or miner said.
    """
    labels = torch.arange(4).repeat_interleave(4)
    descriptors = torch.nn.functional.normalize(torch.randn(16, descriptor_dim), dim=1)
    try:
        for _ in range(2):  # the second compares with what the first left in memory
            value, _ = criterion(descriptors, labels)
            if not torch.isfinite(value):
                raise UserError(f"the loss is {value.item()}")
    except Exception as error:  # the library's, of any kind
        raise UserError(f"loss and miner fail with their options: {type(error).__name__}: {error}") from None


def model_to_check(configuration: RunConfiguration) -> VPRModel:
    """The model that will be exported: a given checkpoint, or one that is built and tried as the training will do."""
    settings = configuration.settings
    if pick_device(settings.accelerator).type == "cuda" and settings.devices > torch.cuda.device_count():
        raise UserError(
            f"params.yaml: {place_of('devices')} is {settings.devices}, but torch sees {torch.cuda.device_count()} GPUs"
        )
    if settings.decode_on_gpu and (pick_device(settings.accelerator).type != "cuda" or jpeg_decoder() is None):
        raise UserError(
            f"params.yaml: {place_of('decode_on_gpu')} is true, and there is no GPU or no TorchCodec for it"
        )
    if settings.checkpoint in (None, UNTRAINED):
        is_published = settings.weights == "imagenet"
        model = build_model(configuration, None if is_published else settings.weights)
        num_places = max(4, settings.places_per_batch)
        try_criterion(build_criterion(configuration, model.descriptor_dim, num_places), model.descriptor_dim)
        if is_published:  # last, as they may have to be downloaded; but before the data are
            build_model(configuration, settings.weights)
        return model
    checkpoint = Path(str(settings.checkpoint))
    if (checkpoint.parent / "training.json").is_file() and checkpoint.resolve().is_relative_to(Path.cwd()):
        raise UserError(
            f"params.yaml: {place_of('checkpoint')} is {str(checkpoint)!r}, in the folder that the train stage "
            "empties; copy the file elsewhere and use that path"
        )
    return load_checkpoint(checkpoint)[0]


def memory_bytes(train: TrainParams) -> float:
    """Memory of the device that trains, or ``max_memory_gb``."""
    if train.max_memory_gb is not None:
        return train.max_memory_gb * GIB
    device = pick_device(train.accelerator)
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total)
