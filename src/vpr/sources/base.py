"""What every dataset has in common.

To add one, write a file in this folder with a subclass of ``DatasetAdapter``, register it, and give it a block in
``params.yaml`` with its options under ``images`` and the training settings that suit it under ``train``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vpr.config.errors import UserError
from vpr.config.params import PARAMS_FILE, Options, parse, reads, resolved, value_at
from vpr.config.registry import Registry
from vpr.data.manifest import Manifest

DATASETS = Registry("dataset", "vpr.sources")


@dataclass(frozen=True)
class Context:
    """What the project hands to a dataset.

    Attributes:
        catalogue: file of the published sets, ``data/sources.yaml``.
        known_hashes: file of the hashes that earlier downloads had.
        only_sets: evaluation sets that are all that is needed of a dataset, as a given checkpoint is evaluated on them;
            ``None`` where a model is trained.
    """

    catalogue: Path = Path("data/sources.yaml")
    known_hashes: Path = Path("data/known_hashes.json")
    only_sets: tuple[str, ...] | None = None


class DatasetAdapter(ABC):
    """A dataset: it makes or fetches the images that are not there yet, and lists all of them.

    Attributes:
        Params: the options, under ``datasets.<name>.images`` of ``params.yaml``.
        name: as it is chosen in ``params.yaml``.
    """

    Params: ClassVar[type[Any]]

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, params: Any, context: Context, where: str) -> None:  # noqa: B027, most have nothing to check
        """Refuse options that do not fit together, also while another dataset is chosen.

        Args:
            where: what errors call the options, such as ``params.yaml: datasets.synthetic.images``.

        Raises:
            UserError: naming the key.
        """

    def check_chosen(self, params: Any, context: Context, where: str, set_names: Sequence[str]) -> None:  # noqa: B027
        """Refuse what would fail later, before anything long begins: this dataset is going to be prepared.

        Args:
            set_names: the evaluation sets that ``eval_sets`` and ``val_set`` name.

        Raises:
            UserError: naming the key.
        """

    def num_places(self, params: Any, context: Context) -> int | None:
        """Most places to train on, where that is known before anything is fetched."""
        return None

    @abstractmethod
    def prepare(self, params: Any, context: Context) -> Manifest:
        """Fetch or make what is missing, and list all of it: rows as ``vpr.data.manifest.make_manifest`` takes them.

        What can't be read of a row goes into its column ``problem``, for the verify stage to report.

        Raises:
            UserError: if the images can't be fetched or made.
        """

    def describe_sets(self, params: Any, set_names: Sequence[str]) -> str:
        """What the names of evaluation sets stand for, in a line; ``""`` if they speak for themselves."""
        return ""


@reads("dataset", "datasets.${dataset}.images")
def load_dataset(path: Path = PARAMS_FILE) -> tuple[DatasetAdapter, Any, str]:
    """The chosen dataset, its options, and what errors call these."""
    key = "datasets.${dataset}.images"
    name = resolved("${dataset}", path)
    adapter = make_dataset(name)
    where = f"{path}: {resolved(key, path)}"
    return adapter, parse(value_at(key, path), adapter.Params, where), where


def check_dataset(name: str, block: Any, context: Context, where: str) -> None:
    """Check a dataset's block of ``params.yaml``, also while another dataset is chosen.

    Args:
        where: what errors call the table of datasets, such as ``params.yaml: datasets``.

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
    """The adapter of a dataset."""
    adapter: DatasetAdapter = DATASETS[name].build(name)
    return adapter


__all__ = ["DATASETS", "Context", "DatasetAdapter", "Options", "load_dataset", "make_dataset"]
