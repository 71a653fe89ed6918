"""Any network of timm that gives feature maps, by its name: https://huggingface.co/docs/timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vpr.model.backbones.base import BACKBONES, NUM_STAGES, Backbone, num_kept
from vpr.model.backbones.weights import timm_model, with_file
from vpr.model.spec import IMAGENET_MEAN, IMAGENET_STD


class TimmBackbone(Backbone):
    """A timm network up to the feature map of one of its stages.

    A stage ends where the stride changes, and the last four count; in a transformer of equal blocks a stage is a
    quarter of the blocks.

    Args:
        network: timm's, with ``feature_info`` and ``forward_intermediates``.
        layers_to_crop: stages to leave out, the last ones.
        layers_to_freeze: ``n`` freezes the first ``n`` stages and what comes before them, ``0`` the latter alone,
            ``None`` nothing.

    Raises:
        ValueError: if the network gives no feature maps, or the layers do not fit.
    """

    def __init__(self, network: Any, layers_to_crop: Sequence[int] = (), layers_to_freeze: int | None = None) -> None:
        super().__init__()
        kept = num_kept(layers_to_crop, layers_to_freeze)
        if not getattr(network, "feature_info", None) or not hasattr(network, "forward_intermediates"):
            raise ValueError("the timm model gives no feature maps; choose another, such as convnextv2_nano")
        ends = _stage_ends(network)
        self._index = ends[kept - 1]
        self.out_channels = int(network.feature_info[self._index]["num_chs"])
        if layers_to_freeze is not None:
            self._freeze_to(network, ends, layers_to_freeze)
        self.network = network
        network.prune_intermediate_layers(indices=[self._index], prune_norm=True, prune_head=True)

    def _freeze_to(self, network: Any, ends: list[int], num_stages: int) -> None:
        """Freeze by timm's own grouping of parameters into layers, from the input on."""
        from timm.models import group_parameters

        groups = group_parameters(network, network.group_matcher(coarse=True))
        layer_of = {name: k for k, names in groups.items() for name in names}

        def layers(end: int) -> list[int]:
            prefix = network.feature_info[end]["module"] + "."
            return [k for name, k in layer_of.items() if name.startswith(prefix)]

        if not layers(ends[0]) or not layers(ends[max(0, num_stages - 1)]):
            raise ValueError("timm does not say which layers of this model come first; set layers_to_freeze to null")
        last = max(layers(ends[num_stages - 1])) if num_stages else min(layers(ends[0])) - 1
        frozen = {name for name, k in layer_of.items() if k <= last}
        parts = []
        for path, module in network.named_modules():
            names = [f"{path}.{name}" for name, _ in module.named_parameters()]
            if path and names and frozen.issuperset(names):
                parts.append(module)
        self.freeze(parts)
        for name, parameter in network.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        (features,) = self.network.forward_intermediates(
            images, indices=[self._index], intermediates_only=True, output_fmt="NCHW", stop_early=True
        )
        return features


def _stage_ends(network: Any) -> list[int]:
    """Numbers of the feature maps that end the four stages."""
    strides = [info["reduction"] for info in network.feature_info]
    if len(set(strides)) == 1:
        if len(strides) < NUM_STAGES:
            raise ValueError(f"the timm model has {len(strides)} blocks; expected at least {NUM_STAGES}")
        return [len(strides) * k // NUM_STAGES - 1 for k in range(1, NUM_STAGES + 1)]
    ends = [k for k, stride in enumerate(strides) if k + 1 == len(strides) or strides[k + 1] != stride]
    if len(ends) < NUM_STAGES:
        raise ValueError(f"the timm model has feature maps of the strides {strides}; expected four different ones")
    return ends[-NUM_STAGES:]


def _normalisation(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """What timm says of the model's published weights."""
    from timm.models import get_pretrained_cfg

    stated = get_pretrained_cfg(str(options.get("model", "")), allow_unregistered=True)
    return (tuple(stated.mean), tuple(stated.std)) if stated else (IMAGENET_MEAN, IMAGENET_STD)


@BACKBONES.register("timm", "[timm](https://huggingface.co/docs/timm)", normalisation=_normalisation)
def timm_network(
    weights: str | None = None,
    layers_to_crop: Sequence[int] = (),
    layers_to_freeze: int | None = None,
    model: str = "convnextv2_nano",
) -> Backbone:
    """The timm model of this name; ``imagenet`` stands for its published weights."""
    import timm  # takes seconds to import

    if not timm.is_model(model):
        near = ", ".join(timm.list_models(f"*{model.partition('_')[0][:6]}*")[:8])
        raise ValueError(f"timm has no model {model!r}{f'; it has {near}' if near else ''}")
    network = timm_model(model, weights)
    embed = getattr(network, "patch_embed", None)
    if embed is not None and hasattr(embed, "strict_img_size"):
        embed.strict_img_size = False
    return with_file(lambda whole: TimmBackbone(whole, layers_to_crop, layers_to_freeze), network, model, weights)
