"""The interface that every dataset implements.

To add one, write a file in this folder with a subclass of ``DatasetAdapter``, register it, and give it a block in
``params.yaml`` with its options under ``images`` and the training settings that suit it under ``train``. A dataset
that is only evaluated has ``train: null``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vpr.config.errors import UserError
from vpr.config.params import Options, Params, parse, reads
from vpr.config.registry import Registry
from vpr.data.manifest import Manifest

DATASETS = Registry("dataset", "vpr.sources")


@dataclass(frozen=True)
class Context:
    """Facts about the project that a dataset needs.

    Attributes:
        catalogue: File of the published sets, ``data/sources.yaml``.
        known_hashes: File with the hashes of earlier downloads.
        only_sets: Evaluation sets to fetch if nothing else is needed, because a checkpoint is evaluated; ``None`` if a
            model is trained.
    """

    catalogue: Path = Path("data/sources.yaml")
    known_hashes: Path = Path("data/known_hashes.json")
    only_sets: tuple[str, ...] | None = None


class DatasetAdapter(ABC):
    """A dataset: it fetches or draws missing images and lists all of them.

    Attributes:
        Params: Class of the options ``datasets.<name>.images`` of ``params.yaml``.
        name: Name of the dataset in ``params.yaml``.
    """

    Params: ClassVar[type[Any]]

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, params: Any, context: Context, where: str) -> None:  # noqa: B027 (most datasets have nothing to check)
        """Check that the options fit together, even if another dataset is chosen.

        Args:
            params: Options of the dataset.
            context: Facts about the project.
            where: Name of the options in error messages, such as ``params.yaml: datasets.synthetic.images``.

        Raises:
            UserError: naming the key.
        """

    def check_chosen(self, params: Any, context: Context, where: str, set_names: Sequence[str]) -> None:  # noqa: B027
        """Check everything that can be checked before the chosen dataset is prepared.

        Args:
            params: Options of the dataset.
            context: Facts about the project.
            where: Name of the options in error messages.
            set_names: Evaluation sets that ``eval_sets`` and ``train.val_set`` name.

        Raises:
            UserError: naming the key.
        """

    def num_places(self, params: Any, context: Context) -> int | None:
        """Return the largest possible number of training places; ``None`` if it is unknown before fetching."""
        return None

    def num_images(self, params: Any, context: Context) -> int | None:
        """Return the largest possible number of training images; ``None`` if it is unknown before fetching."""
        return None

    @abstractmethod
    def prepare(self, params: Any, context: Context) -> Manifest:
        """Fetch or draw missing images and list all of them, in rows for ``vpr.data.manifest.make_manifest``.

        The column ``problem`` of a row says what could not be read; the verify stage reports it.

        Raises:
            UserError: if the images cannot be fetched or drawn.
        """

    def describe_sets(self, params: Any, set_names: Sequence[str]) -> str:
        """Explain the names of evaluation sets in a line; ``""`` if they need no explanation."""
        return ""


@reads("dataset", "datasets.${dataset}.images")
def load_dataset(params: Params) -> tuple[DatasetAdapter, Any, str]:
    """Return the chosen dataset, its options, and their name in error messages."""
    key = "datasets.${dataset}.images"
    adapter, where = make_dataset(params.dataset), params.where(key)
    return adapter, parse(params.raw(key), adapter.Params, where), where


def check_dataset(name: str, block: Any, context: Context, where: str) -> None:
    """Check a dataset's block of ``params.yaml``, even if another dataset is chosen.

    Args:
        name: Name of the dataset.
        block: Block of the dataset.
        context: Facts about the project.
        where: Name of the table of datasets in error messages, such as ``params.yaml: datasets``.

    Raises:
        UserError: for an unknown dataset, or a wrong key or value of its images.
    """
    if name not in DATASETS:
        raise UserError(f"{where} has unknown keys [{name!r}]; choose from {list(DATASETS)}")
    if not isinstance(block, dict) or set(block) != {"images", "train"}:
        raise UserError(f"{where}.{name} is {block!r}; expected the keys ['images', 'train']")
    adapter, where = make_dataset(name), f"{where}.{name}.images"
    adapter.check(parse(block["images"], adapter.Params, where), context, where)


def make_dataset(name: str) -> DatasetAdapter:
    """Return the adapter of a dataset."""
    adapter: DatasetAdapter = DATASETS[name].build(name)
    return adapter


__all__ = ["DATASETS", "Context", "DatasetAdapter", "Options", "load_dataset", "make_dataset"]
