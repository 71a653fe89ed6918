"""ResNet: residual stages on a convolutional stem, without the classifier.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
https://arxiv.org/abs/1512.03385
Weights and layers are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

_WEIGHTS = {"resnet18": torchvision.models.ResNet18_Weights.IMAGENET1K_V1}
_NUM_STAGES = 4


class ResNet(nn.Module):
    """Stem and residual stages of a torchvision ResNet.

    Args:
        network: the torchvision model.
        layers_to_crop: stages to leave out, such as ``[4]`` for the last; they must be the last ones.
        layers_to_freeze: ``n`` freezes the stem and the first ``n`` stages, ``0`` the stem alone, ``None``
            nothing. Frozen batch norms keep their running statistics.

    Shape:
        images ``(B, 3, H, W)`` -> feature map ``(B, out_channels, H / s, W / s)``, rounded up, with stride
        ``s`` 32 for all stages and half as much for each stage cropped.

    Raises:
        ValueError: if the layers are not stages of the network.
    """

    def __init__(self, network: Any, layers_to_crop: Sequence[int] = (), layers_to_freeze: int | None = None) -> None:
        super().__init__()
        kept = _NUM_STAGES - len(layers_to_crop)
        if sorted(layers_to_crop) != list(range(kept + 1, _NUM_STAGES + 1)) or kept < 1:
            raise ValueError(
                f"layers_to_crop is {list(layers_to_crop)}; expected the last of the stages 1 to 4: "
                "[], [4], [3, 4] or [2, 3, 4]"
            )
        if layers_to_freeze is not None and not 0 <= layers_to_freeze <= kept:
            raise ValueError(f"layers_to_freeze is {layers_to_freeze}; expected null or 0 to {kept}, the stages kept")
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.stages = nn.ModuleList([getattr(network, f"layer{k}") for k in range(1, kept + 1)])
        last: Any = list(self.stages[-1].children())[-1]
        self.out_channels = int((last.bn3 if hasattr(last, "bn3") else last.bn2).num_features)
        frozen = [] if layers_to_freeze is None else [self.stem, *self.stages[:layers_to_freeze]]
        self._frozen = [module for part in frozen for module in part.modules()]
        for module in frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> ResNet:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return features


def resnet18(
    weights: str | None = None, layers_to_crop: Sequence[int] = (4,), layers_to_freeze: int | None = None
) -> ResNet:
    """ResNet-18; cropped at stage 4 its feature map has 256 channels at stride 16."""
    return ResNet(_load("resnet18", weights), layers_to_crop, layers_to_freeze)


def _load(name: str, weights: str | None) -> nn.Module:
    """A torchvision ResNet with random, ImageNet or the user's weights."""
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    if weights is None:
        return network
    if weights == "imagenet":
        state = _imagenet(name)
    else:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"weights {weights!r}: no such file; choose null, imagenet or a state dict's path")
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:  # what is no weights file fails in many ways
            raise ValueError(f"weights {weights!r} can't be read as a state dict: {str(error)[:200]}") from None
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"weights {weights!r} do not fit {name}: {error}") from None
    return network


def _imagenet(name: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights, through its download cache."""
    entry = _WEIGHTS[name]
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"ImageNet weights of {name} can't be had: {error}; fetch {entry.url} on a machine with a network and put "
            f"the file {Path(entry.url).name} into {folder}, or set weights to null in params.yaml"
        ) from None
    return state
