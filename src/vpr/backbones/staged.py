"""What all backbones have in common: a stem and four stages, of which the last are cropped and the first frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

NUM_STAGES = 4
_PROBE_PX = 64


def num_kept(layers_to_crop: Sequence[int], layers_to_freeze: int | None) -> int:
    """Stages that are left after cropping.

    Raises:
        ValueError: if the layers are not the last stages, or more are frozen than left.
    """
    kept = NUM_STAGES - len(layers_to_crop)
    if sorted(layers_to_crop) != list(range(kept + 1, NUM_STAGES + 1)) or kept < 1:
        raise ValueError(
            f"layers_to_crop is {list(layers_to_crop)}; expected the last of the stages 1 to 4: "
            "[], [4], [3, 4] or [2, 3, 4]"
        )
    if layers_to_freeze is not None and not 0 <= layers_to_freeze <= kept:
        raise ValueError(f"layers_to_freeze is {layers_to_freeze}; expected null or 0 to {kept}, the stages kept")
    return kept


class Backbone(nn.Module):
    """Images ``(B, 3, H, W)`` -> feature map ``(B, out_channels, h, w)``; frozen parts stay in evaluation mode.

    Attributes:
        out_channels: channels of the feature map.
    """

    out_channels: int

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Keep these modules as they are: no gradients, no running statistics."""
        for part in modules:
            part.requires_grad_(False)
            self._frozen += part.modules()
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self

    def forward_with_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Feature map ``(B, out_channels, h, w)`` and a token ``(B, out_channels)`` for the whole image.

        The mean of the features, where a network has no class token of its own.
        """
        features = self(images)
        return features, features.mean(dim=(-2, -1))


class StagedBackbone(Backbone):
    """A convolutional or windowed network, taken apart into a stem and four stages.

    Args:
        stem, stages: the network's parts; stage 1 ends at stride 4, each further one at twice that.
        layers_to_crop: stages to leave out, such as ``[4]`` for the last; they must be the last ones.
        layers_to_freeze: ``n`` freezes the stem and the first ``n`` stages, ``0`` the stem alone, ``None``
            nothing. Frozen batch norms keep their running statistics.
        channels_last: the stages work on ``(B, H, W, C)``.

    Shape:
        images ``(B, 3, H, W)`` -> feature map ``(B, out_channels, H / s, W / s)``, rounded as the network's
        convolutions round, with stride ``s`` 32 for all stages (VGG: 16) and half as much for each stage cropped.

    Raises:
        ValueError: if the layers are not stages of the network.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        layers_to_crop: Sequence[int] = (),
        layers_to_freeze: int | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        assert len(stages) == NUM_STAGES, "every family is taken apart into four stages"
        kept = num_kept(layers_to_crop, layers_to_freeze)
        self.stem = stem
        self.stages = nn.ModuleList(stages[:kept])
        self.channels_last = channels_last
        if layers_to_freeze is not None:
            self.freeze([self.stem, *self.stages[:layers_to_freeze]])
        mode = self.training
        with torch.no_grad():
            self.out_channels = int(self.eval()(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX)).shape[1])
        self.train(mode)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return features.permute(0, 3, 1, 2).contiguous() if self.channels_last else features
