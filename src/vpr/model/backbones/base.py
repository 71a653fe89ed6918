"""What every backbone has in common: a stem and four stages, of which the last are cropped and the first frozen.

To add one, register a function with the arguments ``weights``, ``layers_to_crop`` and ``layers_to_freeze`` that
returns a ``Backbone``; all other arguments are options.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from vpr.config.registry import Registry

BACKBONES = Registry("backbone", "vpr.model.backbones")
NUM_STAGES = 4


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
