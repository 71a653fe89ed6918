"""The configuration of a training run, in ``params.yaml``, checkpoints, ``training.json`` and MLflow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vpr.config.errors import UserError
from vpr.config.params import COMPONENTS, Choice, Params, reads
from vpr.model.spec import ModelSpec
from vpr.training.params import OWN, SHARED, TrainParams, load_train, place_of

# The layers that suit one dataset do not suit another, so they are training settings.
_LAYERS = ("layers_to_crop", "layers_to_freeze")
CHOICE_KEYS = tuple(key for name, table in COMPONENTS.items() for key in (name, f"{table}.${{{name}}}"))


@dataclass(frozen=True)
class RunConfiguration:
    """Everything that a model was trained with.

    Attributes:
        dataset: Training data, with the options that its images depend on.
        backbone, agg, loss, miner: Components, with the options left at their defaults.
        train: Training settings as plain values, because a checkpoint of another version may have other keys;
            ``settings`` checks them.
    """

    dataset: Choice
    backbone: Choice
    agg: Choice
    loss: Choice
    miner: Choice
    train: dict[str, Any]

    @property
    def settings(self) -> TrainParams:
        """Training settings, checked."""
        return TrainParams(**self.train)

    @property
    def spec(self) -> ModelSpec:
        """Description of the model."""
        from vpr.model.backbones import normalisation_of

        height, width = self.train["image_size"]
        mean, std = normalisation_of(self.backbone.name, self.backbone.options)
        backbone, agg = self.backbone, self.agg
        return ModelSpec(backbone.name, backbone.options, agg.name, agg.options, (height, width), mean, std)

    @property
    def components(self) -> list[str]:
        """Names of backbone, aggregator, loss and, if there is one, miner."""
        return [name for key in COMPONENTS if (name := getattr(self, key).name) != "none"]

    def trained_on(self, options: dict[str, Any]) -> RunConfiguration:
        """Return a copy with the options that the training images depend on."""
        return replace(self, dataset=Choice(self.dataset.name, options))

    def as_dict(self) -> dict[str, Any]:
        """Return nested plain types, as checkpoints and ``training.json`` store them."""
        choices = {key: getattr(self, key).as_dict() for key in ("dataset", *COMPONENTS)}
        return {**choices, "train": self.train}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RunConfiguration:
        """Read what ``as_dict`` returned.

        Raises:
            KeyError, TypeError: if ``content`` is anything else.
        """
        choices = {key: Choice.from_dict(content[key]) for key in ("dataset", *COMPONENTS)}
        return cls(**choices, train={**content["train"]})

    def as_params(self) -> dict[str, str]:
        """Return the parameters of an MLflow run as text, such as ``agg.name`` and ``train.lr``."""
        return {key: str(value) for key, value in flat(self.as_dict()).items()}


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn ``{"a": {"b": 1}}`` into ``{"a.b": 1}``."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


@reads("dataset", SHARED, OWN, *CHOICE_KEYS)
def load_configuration(params: Params) -> RunConfiguration:
    """Read what is chosen in ``params.yaml``.

    Raises:
        UserError: for an unknown name or key, with the valid ones.
    """
    from vpr.model.aggregators import AGGREGATORS
    from vpr.model.backbones import BACKBONES
    from vpr.training.losses import LOSSES
    from vpr.training.miners import MINERS

    train = load_train(params)
    chosen = {}
    for key, registry in {"backbone": BACKBONES, "agg": AGGREGATORS, "loss": LOSSES, "miner": MINERS}.items():
        choice = params.choice(key)
        try:
            options = registry[choice.name].with_defaults(choice.options)
        except UserError as error:
            raise UserError(f"{params.path}: {error}") from None
        misplaced = sorted(set(_LAYERS) & choice.options.keys())
        if misplaced:
            raise UserError(
                f"{params.path}: {choice.name} has the options {misplaced}; set them in "
                f"{place_of(misplaced[0], params)}"
            )
        chosen[key] = Choice(choice.name, options)
    chosen["backbone"].options.update({key: getattr(train, key) for key in _LAYERS})
    return RunConfiguration(Choice(params.dataset, {}), **chosen, train=train.model_dump())
