"""The base class and the table of backbones.

Every backbone has a stem and four stages; the last stages can be cropped and the first ones frozen. To add a backbone,
register a function that takes ``weights``, ``layers_to_crop`` and ``layers_to_freeze`` and returns a ``Backbone``; all
other arguments are options.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from vpr.config.registry import Registry

BACKBONES = Registry("backbone", "vpr.model.backbones")
NUM_STAGES = 4


def num_kept(layers_to_crop: Sequence[int], layers_to_freeze: int | None) -> int:
    """Return the number of stages that are left after cropping.

    Raises:
        ValueError: if the cropped layers are not the last stages, or more stages are frozen than kept.
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
    """Maps images ``(B, 3, H, W)`` to a feature map ``(B, out_channels, h, w)``; frozen parts stay in evaluation mode.

    Attributes:
        out_channels: Channels of the feature map.
    """

    out_channels: int

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Freeze these modules: they get no gradients and keep their running statistics."""
        for part in modules:
            part.requires_grad_(False)
            self._frozen += part.modules()
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set training or evaluation mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self

    def forward_with_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return a feature map ``(B, out_channels, h, w)`` and a token ``(B, out_channels)`` for the whole image.

        The token is the mean of the features if the network has no class token.
        """
        features = self(images)
        return features, features.mean(dim=(-2, -1))
