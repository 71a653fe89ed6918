"""All that is needed to build a model again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # images need torch, which takes seconds to import
    from vpr.data.preprocess import Preprocess

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model again.

    Args:
        backbone, aggregator: names, with their options beside them.
        image_size: height and width, in pixels, that images are resized to.
        mean, std: by which each colour channel in [0, 1] is normalised.
        pca_dim: size of the descriptors after PCA as the last step; ``None`` for none.
    """

    backbone: str
    backbone_options: dict[str, Any]
    aggregator: str
    aggregator_options: dict[str, Any]
    image_size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pca_dim: int | None = None

    def preprocess(self, augment_ops: int = 0) -> Preprocess:
        """Make an image what the model takes.

        Args:
            augment_ops: operations of RandAugment; 0 outside training.
        """
        from vpr.data.preprocess import Preprocess

        return Preprocess(self.image_size, self.mean, self.std, augment_ops)
