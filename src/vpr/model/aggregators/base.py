"""The base class and the table of aggregators."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from vpr.config.registry import Registry

AGGREGATORS = Registry("aggregator", "vpr.model.aggregators")


class Aggregator(nn.Module):
    """Turns a feature map into a descriptor.

    A subclass takes ``in_channels`` and, if necessary, ``map_size`` from the backbone; all other arguments are options,
    whose defaults are in the signature. It raises ``ValueError`` for an option that is out of range.

    Shape:
        features ``(B, C, H, W)`` -> descriptors ``(B, descriptor_dim)``, rows of unit L2 norm.

    Attributes:
        descriptor_dim: Size of the descriptor, known before the first batch.
        wants_token: Whether ``forward`` takes the backbone's token ``(B, C)`` as its second argument.
        fixed_map_size: Height and width of the only feature map that the weights fit; ``None`` if they fit any size.
        num_clusters_to_initialise: Number of clusters that ``initialise`` sets before training; 0 for none.
    """

    descriptor_dim: int
    wants_token: ClassVar[bool] = False
    fixed_map_size: tuple[int, int] | None = None
    num_clusters_to_initialise: int = 0

    def initialise(self, centres: Tensor, features: Tensor) -> None:
        """Set the clusters before training. The default does nothing, for aggregators without clusters.

        Args:
            centres: Cluster centres ``(num_clusters_to_initialise, C)`` from k-means over local features.
            features: Local features ``(N, C)`` of unit norm.
        """
        assert self.num_clusters_to_initialise == 0, "an aggregator with clusters has to override this method"
