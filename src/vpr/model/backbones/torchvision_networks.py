"""torchvision's networks, divided into a stem and four stages, without the classifier.

ResNet, He et al., CVPR 2016, https://arxiv.org/abs/1512.03385; ResNeXt, Xie et al., CVPR 2017,
https://arxiv.org/abs/1611.05431; EfficientNet, Tan and Le, ICML 2019, https://arxiv.org/abs/1905.11946;
Swin v2, Liu et al., CVPR 2022, https://arxiv.org/abs/2111.09883; ConvNeXt, Liu et al., CVPR 2022,
https://arxiv.org/abs/2201.03545; VGG, Simonyan and Zisserman, ICLR 2015, https://arxiv.org/abs/1409.1556.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from vpr.model.backbones.base import BACKBONES, Backbone
from vpr.model.backbones.staged import StagedBackbone
from vpr.model.backbones.weights import torchvision_network, with_file

Parts = tuple[nn.Module, list[nn.Module]]


def _resnet(network: Any) -> Parts:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    return stem, [network.layer1, network.layer2, network.layer3, network.layer4]


def _efficientnet(network: Any) -> Parts:
    """Divide the blocks by the stride they end at; the last stage includes the 1x1 convolution of the head."""
    blocks = network.features
    return blocks[0], [blocks[1:3], blocks[3], blocks[4:6], blocks[6:]]


def _patches(network: Any) -> Parts:
    """Divide ConvNeXt or Swin: patches, then blocks, with a reduction before all but the first."""
    blocks = network.features
    last = [*blocks[6:8], *([network.norm] if hasattr(network, "norm") else [])]
    return blocks[0], [blocks[1], blocks[2:4], blocks[4:6], nn.Sequential(*last)]


def _vgg16(network: Any) -> Parts:
    """Divide the convolutions at each pooling; the last pooling is left out, as usual in place recognition."""
    blocks = network.features
    return blocks[:5], [blocks[5:10], blocks[10:17], blocks[17:24], blocks[24:30]]


def _family(take_apart: Callable[[Any], Parts], name: str, channels_last: bool = False) -> Callable[..., nn.Module]:
    def build(
        weights: str | None = None, layers_to_crop: Sequence[int] = (4,), layers_to_freeze: int | None = None
    ) -> Backbone:
        def staged(network: Any) -> StagedBackbone:
            return StagedBackbone(*take_apart(network), layers_to_crop, layers_to_freeze, channels_last)

        return with_file(staged, torchvision_network(name, weights), name, weights)

    build.__doc__ = f"torchvision's {name}."
    return build


_RESNET, _SWIN = "[He 2016](https://arxiv.org/abs/1512.03385)", "[Liu 2022](https://arxiv.org/abs/2111.09883)"
_EFFICIENTNET = "[Tan 2019](https://arxiv.org/abs/1905.11946)"
_CONVNEXT = "[Liu 2022](https://arxiv.org/abs/2201.03545)"

for _name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    BACKBONES.add(_name, _family(_resnet, _name), _RESNET, library="torchvision")
for _name in ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2"):
    BACKBONES.add(_name, _family(_efficientnet, _name), _EFFICIENTNET, library="torchvision")
for _name in ("swin_v2_t", "swin_v2_s", "swin_v2_b"):
    BACKBONES.add(_name, _family(_patches, _name, channels_last=True), _SWIN, library="torchvision")
for _name in ("convnext_tiny", "convnext_small", "convnext_base"):
    BACKBONES.add(_name, _family(_patches, _name), _CONVNEXT, library="torchvision")
BACKBONES.add(
    "resnext50",
    _family(_resnet, "resnext50_32x4d"),
    "[Xie 2017](https://arxiv.org/abs/1611.05431)",
    library="torchvision",
)


@BACKBONES.register("vgg16", "[Simonyan 2015](https://arxiv.org/abs/1409.1556)", library="torchvision")
def vgg16(
    weights: str | None = None,
    layers_to_crop: Sequence[int] = (4,),
    layers_to_freeze: int | None = None,
    last_relu: bool = True,
) -> nn.Module:
    """Build torchvision's vgg16.

    Args:
        weights: Starting weights, see ``build_backbone``.
        layers_to_crop, layers_to_freeze: Stages to leave out and to freeze, see ``StagedBackbone``.
        last_relu: Whether the last stage ends with a ReLU; in CosPlace and EigenPlaces it does not.
    """

    def staged(network: Any) -> StagedBackbone:
        stem, stages = _vgg16(network)
        stages[-1] = stages[-1] if last_relu else stages[-1][:-1]  # type: ignore[index]
        return StagedBackbone(stem, stages, layers_to_crop, layers_to_freeze)

    return with_file(staged, torchvision_network("vgg16", weights), "vgg16", weights)
