"""What every aggregator has in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from vpr.config.registry import Registry

AGGREGATORS = Registry("aggregator", "vpr.model.aggregators")


class Aggregator(nn.Module):
    """Feature map -> descriptor.

    A subclass takes ``in_channels`` and, if it needs it, ``map_size`` from the backbone; all other arguments are
    options, whose defaults stand in the signature. It raises ``ValueError`` for an option that is out of range.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, descriptor_dim)``, rows of unit L2 norm.

    Attributes:
        descriptor_dim: size of the descriptor, known before the first batch.
        wants_token: whether ``forward`` takes the backbone's token ``(B, C)`` as its second argument.
        fixed_map_size: height and width of the only feature map that the weights are for; ``None`` if any will do.
        num_clusters_to_initialise: clusters that ``initialise`` sets before training; 0 for none.
    """

    descriptor_dim: int
    wants_token: ClassVar[bool] = False
    fixed_map_size: tuple[int, int] | None = None
    num_clusters_to_initialise: int = 0

    def initialise(self, centres: Tensor, features: Tensor) -> None:
        """Set the clusters before training; an aggregator without any has nothing to set.

        Args:
            centres: ``(num_clusters_to_initialise, C)``, of k-means over local features.
            features: ``(N, C)`` local features of unit norm.
        """
        assert self.num_clusters_to_initialise == 0, "an aggregator with clusters says how to initialise them"
