"""The chosen components and settings, checked against each other before any work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from vpr.aggregators import AGGREGATORS
from vpr.backbones import BACKBONES
from vpr.components import lookup, with_defaults
from vpr.criterion import GIB, Criterion, check_memory
from vpr.extraction import pick_device
from vpr.losses import LOSSES, build_loss
from vpr.miners import MINERS
from vpr.model import ModelSpec, VPRModel
from vpr.params import PARAMS_FILE, TrainParams, load_choice, load_dataset_name, load_train

_OF_TRAIN = {"layers_to_crop", "layers_to_freeze"}  # what suits one dataset does not suit another


@dataclass(frozen=True)
class Configuration:
    """What is trained; options include those left at their defaults."""

    dataset: str
    spec: ModelSpec
    loss: str
    loss_options: dict[str, Any]
    miner: str
    miner_options: dict[str, Any]
    train: TrainParams
    dataset_options: dict[str, Any] = field(default_factory=dict)  # what the manifest says of its images

    def as_dict(self) -> dict[str, Any]:
        """Plain types, nested."""
        return {
            "dataset": {"name": self.dataset, **self.dataset_options},
            "backbone": {"name": self.spec.backbone, **self.spec.backbone_options},
            "agg": {"name": self.spec.aggregator, **self.spec.aggregator_options},
            "loss": {"name": self.loss, **self.loss_options},
            "miner": {"name": self.miner, **self.miner_options},
            "train": asdict(self.train),
        }


def load_configuration(path: Path = PARAMS_FILE) -> Configuration:
    """Read the chosen blocks of ``params.yaml``.

    Raises:
        ValueError: for an unknown name or key, with the valid ones.
    """
    dataset = load_dataset_name(path)
    train = load_train(path)
    options: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, kind, table in (
        ("backbone", "backbone", BACKBONES),
        ("agg", "aggregator", AGGREGATORS),
        ("loss", "loss", LOSSES),
        ("miner", "miner", MINERS),
    ):
        choice = load_choice(key, path)
        try:
            build = lookup(kind, table, choice.name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        options[key] = choice.name, with_defaults(build, choice.options)
        owned = sorted(_OF_TRAIN & choice.options.keys())
        if owned:
            raise ValueError(f"{path}: {choice.name} has the options {owned}; set them in train.{dataset}")
    layers = {"layers_to_crop": train.layers_to_crop, "layers_to_freeze": train.layers_to_freeze}
    options["backbone"][1].update(layers)
    spec = ModelSpec(*options["backbone"], *options["agg"], image_size=(train.image_size[0], train.image_size[1]))
    return Configuration(dataset, spec, *options["loss"], *options["miner"], train)


def build_model(configuration: Configuration) -> VPRModel:
    """The model with its starting weights; random ones follow from the seed."""
    torch.manual_seed(configuration.train.seed)
    return VPRModel(configuration.spec, configuration.train.weights)


def build_criterion(configuration: Configuration, model: VPRModel, num_places: int) -> Criterion:
    """Miner and loss, refused if they, or the weights that the loss has for each place, cannot fit in memory.

    Args:
        num_places: in the training set.
    """
    train = configuration.train
    check_memory(
        configuration.loss,
        configuration.miner,
        train.places_per_batch,
        train.images_per_place,
        model.descriptor_dim,
        memory_bytes(train),
        train.memory_size,
    )
    with torch.device("meta"):
        own = build_loss(configuration.loss, model.descriptor_dim, num_places, **configuration.loss_options)
    numbers = sum(p.numel() for p in own.parameters())
    needed = 16 * numbers  # weights, gradients and two averages of Adam, in float32
    if needed > memory_bytes(train):
        raise ValueError(
            f"{configuration.loss} has {numbers:,} weights of its own for {num_places:,} places and descriptors of "
            f"{model.descriptor_dim}: {needed / GIB:,.1f} GiB with gradients and averages, the device has "
            f"{memory_bytes(train) / GIB:,.1f} GiB; choose another loss or smaller descriptors, or set max_memory_gb"
        )
    return Criterion(
        configuration.loss,
        configuration.loss_options,
        configuration.miner,
        configuration.miner_options,
        model.descriptor_dim,
        num_places,
        train.memory_size,
    )


def try_criterion(criterion: Criterion, descriptor_dim: int) -> None:
    """One step on random descriptors, which finds options that only fail when used.

    Raises:
        ValueError: with what the loss or miner said.
    """
    labels = torch.arange(4).repeat_interleave(4)
    descriptors = torch.nn.functional.normalize(torch.randn(16, descriptor_dim), dim=1)
    try:
        for _ in range(2):  # the second compares with what the first left in memory
            value, _ = criterion(descriptors, labels)
            if not torch.isfinite(value):
                raise ValueError(f"the loss is {value.item()}")
    except Exception as error:  # the library's, of any kind
        raise ValueError(f"loss and miner fail with their options: {type(error).__name__}: {error}") from None


def memory_bytes(train: TrainParams) -> float:
    """Memory of the device that trains, or ``max_memory_gb``."""
    if train.max_memory_gb is not None:
        return train.max_memory_gb * 1024**3
    device = pick_device(train.accelerator)
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total)
