"""Networks that can be divided into a stem and four stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vpr.model.backbones.base import NUM_STAGES, Backbone, num_kept

_PROBE_PX = 64


class StagedBackbone(Backbone):
    """A convolutional or windowed network, divided into a stem and four stages.

    Args:
        stem, stages: Parts of the network; stage 1 ends at stride 4, and each further stage doubles the stride.
        layers_to_crop: Stages to leave out, such as ``[4]`` for the last; they must be the last ones.
        layers_to_freeze: ``n`` freezes the stem and the first ``n`` stages, ``0`` the stem only, and ``None``
            nothing. Frozen batch norms keep their running statistics.
        channels_last: Whether the stages work on ``(B, H, W, C)``.

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
        assert len(stages) == NUM_STAGES, "every family is divided into four stages"
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
