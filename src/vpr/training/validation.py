"""The validation set of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from vpr.config.errors import UserError
from vpr.data.loading import ImageList, image_loader
from vpr.data.manifest import DATABASE, QUERY, Manifest
from vpr.model.spec import ModelSpec
from vpr.retrieval.positives import Positives, positives_of
from vpr.training.params import TrainParams


@dataclass(frozen=True)
class Validation:
    """A validation set.

    Attributes:
        database, queries: Loaders of the images.
        positives: Positives of each query.
    """

    database: DataLoader[Tensor]
    queries: DataLoader[Tensor]
    positives: Positives

    @property
    def loaders(self) -> tuple[Any, Any]:
        """Loaders of the database and the queries."""
        return self.database, self.queries


def validation_of(manifest: Manifest, spec: ModelSpec, settings: TrainParams, radius_m: float) -> Validation:
    """Return the loaders and positives of the validation set.

    Args:
        manifest: Manifest of the validation set.
        spec: Specification of the model.
        settings: Training settings.
        radius_m: Largest distance of a positive, in metres.

    Raises:
        UserError: if there is no such set, or it has neither coordinates nor places.
    """
    name = settings.val_set
    database, queries = manifest.part(name, DATABASE), manifest.part(name, QUERY)
    positives = positives_of(database, queries, radius_m)
    if positives is None:
        raise UserError(
            f"params.yaml: val_set {name!r} has neither coordinates nor place ids, so the best epoch cannot be chosen; "
            "set val_set to a labelled set"
        )
    database_loader, query_loader = (
        image_loader(
            ImageList(manifest.folder, rows["image"], spec.preprocess()), settings.val_batch_size, settings.num_workers
        )
        for rows in (database, queries)
    )
    return Validation(database_loader, query_loader, positives)
