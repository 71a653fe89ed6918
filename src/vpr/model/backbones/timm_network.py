"""Any network of timm that gives feature maps, by its name: https://huggingface.co/docs/timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from vpr.model.backbones.adapters import adapt
from vpr.model.backbones.base import BACKBONES, NUM_STAGES, Backbone, num_kept
from vpr.model.backbones.weights import timm_model, with_file
from vpr.model.spec import IMAGENET_MEAN, IMAGENET_STD


class TimmBackbone(Backbone):
    """A timm network up to the feature map of one of its stages.

    A stage ends where the stride changes, and the last four stages are used. In a transformer with equal blocks, a
    stage is a quarter of the blocks. A transformer's class token describes the whole image; register tokens are not
    part of the feature map.

    Args:
        network: Network of timm, with ``feature_info`` and ``forward_intermediates``.
        layers_to_crop: Stages to leave out, the last ones.
        layers_to_freeze: ``n`` freezes the first ``n`` stages and everything before them, ``0`` only what comes before
            the stages, and ``None`` nothing.
        trained_blocks: Number of a transformer's last blocks to train, with everything before them frozen; ``None`` to
            use ``layers_to_freeze``.
        final_norm: Whether a transformer's last layer norm is applied.

    Raises:
        ValueError: if the network gives no feature maps, or the layers do not fit.
    """

    def __init__(
        self,
        network: Any,
        layers_to_crop: Sequence[int] = (),
        layers_to_freeze: int | None = None,
        trained_blocks: int | None = None,
        final_norm: bool = False,
    ) -> None:
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
        self._final_norm, self._has_token = final_norm, getattr(network, "cls_token", None) is not None
        network.prune_intermediate_layers(indices=[self._index], prune_norm=not final_norm, prune_head=True)
        if trained_blocks is not None:
            self._train_last(trained_blocks, layers_to_freeze)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of a transformer that are kept; empty for other networks."""
        return list(getattr(self.network, "blocks", ())) if self._has_token else []

    def _train_last(self, number: int, layers_to_freeze: int | None) -> None:
        if layers_to_freeze is not None:
            raise ValueError("trained_blocks and layers_to_freeze are both given; set one of them to null")
        if not 0 <= number <= len(self.blocks) or not self.blocks:
            raise ValueError(f"trained_blocks is {number}; the model has {len(self.blocks)} blocks of a transformer")
        last = self.blocks[len(self.blocks) - number :]
        trained = {id(module) for block in last for module in block.modules()}
        norm = getattr(self.network, "norm", None)
        if norm is not None:
            trained |= {id(module) for module in norm.modules()}
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        for module in (*last, *([norm] if norm is not None else [])):
            module.requires_grad_(True)
        frozen = [m for m in self.network.modules() if id(m) not in trained and not list(m.children())]
        self.freeze(frozen)

    def _freeze_to(self, network: Any, ends: list[int], num_stages: int) -> None:
        """Freeze layers from the input on, as timm groups parameters into layers."""
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
        (features,) = self._intermediates(images)
        return features

    def forward_with_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if not self._has_token:
            return super().forward_with_token(images)
        ((features, prefix),) = self._intermediates(images, return_prefix_tokens=True)
        return features, prefix[:, 0]

    def _intermediates(self, images: Tensor, **options: Any) -> Any:
        if self._final_norm:
            options["norm"] = True
        return self.network.forward_intermediates(
            images, indices=[self._index], intermediates_only=True, output_fmt="NCHW", stop_early=True, **options
        )


def _stage_ends(network: Any) -> list[int]:
    """Return the numbers of the feature maps at the ends of the four stages."""
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
    """Return the normalisation that timm states for the model's published weights."""
    from timm.models import get_pretrained_cfg

    stated = get_pretrained_cfg(str(options.get("model", "")), allow_unregistered=True)
    return (tuple(stated.mean), tuple(stated.std)) if stated else (IMAGENET_MEAN, IMAGENET_STD)


def _timm(
    model: str,
    weights: str | None,
    layers_to_crop: Sequence[int],
    layers_to_freeze: int | None,
    trained_blocks: int | None,
    final_norm: bool,
    adapter: str,
    adapter_dim: int,
) -> Backbone:
    import timm  # takes seconds to import

    if not timm.is_model(model):
        near = ", ".join(timm.list_models(f"*{model.partition('_')[0][:6]}*")[:8])
        raise ValueError(f"timm has no model {model!r}{f'; it has {near}' if near else ''}")
    if adapter != "none" and (trained_blocks is not None or layers_to_freeze is not None):
        raise ValueError("an adapter freezes all other weights: set trained_blocks and layers_to_freeze to null")

    def take_apart(network: Any) -> TimmBackbone:
        return TimmBackbone(network, layers_to_crop, layers_to_freeze, trained_blocks, final_norm)

    network = timm_model(model, weights)
    embed = getattr(network, "patch_embed", None)
    if embed is not None and hasattr(embed, "strict_img_size"):
        embed.strict_img_size = False
    backbone = with_file(take_apart, network, model, weights)
    assert isinstance(backbone, TimmBackbone), "take_apart above returns it"
    return adapt(backbone, backbone.blocks, adapter, adapter_dim)


@BACKBONES.register("timm", "[timm](https://huggingface.co/docs/timm)", normalisation=_normalisation)
def timm_network(
    weights: str | None = None,
    layers_to_crop: Sequence[int] = (),
    layers_to_freeze: int | None = None,
    model: str = "convnextv2_nano",
    trained_blocks: int | None = None,
    final_norm: bool = False,
    adapter: str = "none",
    adapter_dim: int = 16,
) -> Backbone:
    """Build the timm model of this name; ``imagenet`` stands for its published weights."""
    return _timm(model, weights, layers_to_crop, layers_to_freeze, trained_blocks, final_norm, adapter, adapter_dim)


def _dinov3(model: str) -> Callable[..., nn.Module]:
    def build(
        weights: str | None = None,
        layers_to_crop: Sequence[int] = (),
        layers_to_freeze: int | None = None,
        trained_blocks: int | None = None,
        final_norm: bool = True,
        adapter: str = "none",
        adapter_dim: int = 16,
    ) -> Backbone:
        return _timm(model, weights, layers_to_crop, layers_to_freeze, trained_blocks, final_norm, adapter, adapter_dim)

    build.__doc__ = f"timm's {model}; ``imagenet`` stands for its published weights."
    return build


for _name, _model in (
    ("dinov3_vits16", "vit_small_patch16_dinov3"),
    ("dinov3_vitb16", "vit_base_patch16_dinov3"),
    ("dinov3_vitl16", "vit_large_patch16_dinov3"),
):
    BACKBONES.add(_name, _dinov3(_model), "[Siméoni 2025](https://arxiv.org/abs/2508.10104)", size_multiple=16)
