"""What is trained: one class from ``params.yaml`` to checkpoints, ``training.json`` and MLflow, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError
from vpr.config.params import COMPONENTS, PARAMS_FILE, load_choice, load_dataset_name, reads
from vpr.model.spec import ModelSpec
from vpr.training.params import OWN, SHARED, TrainParams, load_train, place_of

# Layers that suit one dataset do not suit another, so they are set with the training.
_LAYERS = ("layers_to_crop", "layers_to_freeze")
CHOICE_KEYS = tuple(key for name, table in COMPONENTS.items() for key in (name, f"{table}.${{{name}}}"))


@dataclass(frozen=True)
class Named:
    """A dataset or component by name, with its options, those left at their defaults included."""

    name: str
    options: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """``{"name": ..., **options}``."""
        return {"name": self.name, **self.options}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Named:
        """The reverse of ``as_dict``.

        Raises:
            KeyError, TypeError: if it is anything else.
        """
        if not isinstance(content["name"], str):
            raise TypeError(f"a name is {content['name']!r}")
        return cls(content["name"], {key: value for key, value in content.items() if key != "name"})


@dataclass(frozen=True)
class RunConfiguration:
    """What a model was trained with.

    Attributes:
        dataset: the training data, with the options that its images follow from.
        backbone, agg, loss, miner: the components.
        train: the training settings; those of a checkpoint of another version may lack or have keys, so they are
            plain values here, and ``settings`` checks them.
    """

    dataset: Named
    backbone: Named
    agg: Named
    loss: Named
    miner: Named
    train: dict[str, Any]

    @property
    def settings(self) -> TrainParams:
        """The training settings of this version."""
        return TrainParams(**self.train)

    @property
    def spec(self) -> ModelSpec:
        """The model to build."""
        from vpr.model.backbones import normalisation_of

        height, width = self.train["image_size"]
        mean, std = normalisation_of(self.backbone.name, self.backbone.options)
        backbone, agg = self.backbone, self.agg
        return ModelSpec(backbone.name, backbone.options, agg.name, agg.options, (height, width), mean, std)

    @property
    def components(self) -> list[str]:
        """The names of backbone, aggregator, loss and, where there is one, miner."""
        return [name for key in COMPONENTS if (name := getattr(self, key).name) != "none"]

    def trained_on(self, options: dict[str, Any]) -> RunConfiguration:
        """The same with the options that the training images follow from."""
        return replace(self, dataset=Named(self.dataset.name, options))

    def as_dict(self) -> dict[str, Any]:
        """Plain types, nested: for checkpoints and ``training.json``."""
        named = {key: getattr(self, key).as_dict() for key in ("dataset", *COMPONENTS)}
        return {**named, "train": self.train}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RunConfiguration:
        """The reverse of ``as_dict``.

        Raises:
            KeyError, TypeError: if it is anything else.
        """
        named = {key: Named.from_dict(content[key]) for key in ("dataset", *COMPONENTS)}
        return cls(**named, train={**content["train"]})

    def as_params(self) -> dict[str, str]:
        """Flat, as text: the parameters of an MLflow run, such as ``agg.name`` and ``train.lr``."""
        return {key: str(value) for key, value in flat(self.as_dict()).items()}


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


@reads("dataset", SHARED, OWN, *CHOICE_KEYS)
def load_configuration(path: Path = PARAMS_FILE) -> RunConfiguration:
    """Read what is chosen in ``params.yaml``.

    Raises:
        UserError: for an unknown name or key, with the valid ones.
    """
    from vpr.model.aggregators import AGGREGATORS
    from vpr.model.backbones import BACKBONES
    from vpr.training.losses import LOSSES
    from vpr.training.miners import MINERS

    train = load_train(path)
    named = {}
    for key, registry in {"backbone": BACKBONES, "agg": AGGREGATORS, "loss": LOSSES, "miner": MINERS}.items():
        choice = load_choice(key, path)
        try:
            options = registry[choice.name].with_defaults(choice.options)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        misplaced = sorted(set(_LAYERS) & choice.options.keys())
        if misplaced:
            raise UserError(
                f"{path}: {choice.name} has the options {misplaced}; set them in {place_of(misplaced[0], path)}"
            )
        named[key] = Named(choice.name, options)
    named["backbone"].options.update({key: getattr(train, key) for key in _LAYERS})
    return RunConfiguration(Named(load_dataset_name(path), {}), **named, train=train.model_dump())
