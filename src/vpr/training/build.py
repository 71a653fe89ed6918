"""Build a model, a loss and a miner from their configuration, and check them before any long work starts."""

from __future__ import annotations

import psutil
import torch

from vpr.config.errors import UserError
from vpr.config.params import Choice, Params
from vpr.data.images import jpeg_decoder
from vpr.model.device import pick_device
from vpr.model.vpr_model import VPRModel
from vpr.training.configuration import RunConfiguration
from vpr.training.criterion import Criterion
from vpr.training.losses import build_loss
from vpr.training.memory import GIB, check_memory
from vpr.training.params import TrainParams, place_of


def build_model(configuration: RunConfiguration, weights: str | None) -> VPRModel:
    """Build the model with its initial weights; random ones depend on the seed.

    Args:
        configuration: Configuration of the training.
        weights: Weights of the backbone, see ``train.weights``.
    """
    torch.manual_seed(configuration.settings.seed)
    return VPRModel(configuration.spec, weights)


def build_criterion(configuration: RunConfiguration, descriptor_dim: int, num_places: int) -> Criterion:
    """Build miner and loss.

    Args:
        configuration: Configuration of the training.
        descriptor_dim: Dimension of the model's descriptors.
        num_places: Number of training places.

    Raises:
        UserError: if miner and loss, with the weights that it learns for each place, do not fit in memory, or if it
            learns such weights and the batches are cliques.
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
            f"{loss.name} learns weights for each place, and cliques are new places in every batch; "
            "choose another loss or other batches"
        )
    needed = 16 * num_weights  # weights, gradients and two averages of Adam, in float32
    if needed > limit:
        raise UserError(
            f"{loss.name} has {num_weights:,} weights for {num_places:,} places and descriptors of {descriptor_dim} "
            f"numbers, which need {needed / GIB:,.1f} GiB with gradients and averages, but the device has "
            f"{limit / GIB:,.1f} GiB; choose another loss or smaller descriptors, or set max_memory_gb"
        )
    return Criterion(loss.name, loss.options, miner.name, miner.options, descriptor_dim, num_places, train.memory_size)


def num_own_weights(loss: Choice, descriptor_dim: int, num_places: int) -> int:
    """Count the weights of a loss.

    The number grows linearly with the number of places, so it is computed from losses for two and three places.
    """
    two, three = (
        sum(p.numel() for p in build_loss(loss.name, descriptor_dim, places, **loss.options).parameters())
        for places in (2, 3)
    )
    return two + (num_places - 2) * (three - two)


def try_criterion(criterion: Criterion, descriptor_dim: int) -> None:
    """Try a step on random descriptors, to find options that fail only when they are used.

    Raises:
        UserError: with the message of the loss or miner.
    """
    labels = torch.arange(4).repeat_interleave(4)
    descriptors = torch.nn.functional.normalize(torch.randn(16, descriptor_dim), dim=1)
    try:
        for _ in range(2):  # the second step compares with the memory of the first
            value, _ = criterion(descriptors, labels)
            if not torch.isfinite(value):
                raise UserError(f"the loss is {value.item()}")
    except Exception as error:  # the library raises errors of any kind
        raise UserError(f"loss and miner fail with their options: {type(error).__name__}: {error}") from None


def check_model(configuration: RunConfiguration, params: Params) -> VPRModel:
    """Build the model that will be trained, and try what the training will do.

    Raises:
        UserError: if the device lacks something, or model, miner and loss do not work together.
    """
    settings = configuration.settings
    on_gpu = pick_device(settings.accelerator).type == "cuda"
    if on_gpu and settings.devices > torch.cuda.device_count():
        where = f"{params.path}: {place_of('devices', params)}"
        raise UserError(f"{where} is {settings.devices}, but torch sees {torch.cuda.device_count()} GPUs")
    if settings.decode_on_gpu and (not on_gpu or jpeg_decoder() is None):
        where = f"{params.path}: {place_of('decode_on_gpu', params)}"
        raise UserError(f"{where} is true, but there is no GPU, or TorchCodec is not installed")
    is_published = settings.weights == "imagenet"
    model = build_model(configuration, None if is_published else settings.weights)
    num_places = max(4, settings.places_per_batch)
    try_criterion(build_criterion(configuration, model.descriptor_dim, num_places), model.descriptor_dim)
    if is_published:  # last, because they may have to be downloaded
        build_model(configuration, settings.weights)
    return model


def memory_bytes(train: TrainParams) -> float:
    """Return the memory of the training device, or ``max_memory_gb``."""
    if train.max_memory_gb is not None:
        return train.max_memory_gb * GIB
    device = pick_device(train.accelerator)
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total)
