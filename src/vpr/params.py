"""``params.yaml`` -> frozen dataclasses; the only reader of that file.

Options of a component (backbone, aggregator, loss, miner) are not here: they are the arguments of
its class, checked where it is built.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

PARAMS_FILE = Path("params.yaml")
T = TypeVar("T")
_strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, config=_strict)
class Choice:
    """A component by name, with the options of that name's block."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True, config=_strict)
class SyntheticParams:
    """The embedded city.

    Args:
        seed: of everything in it.
        width, height: of an image, in pixels.
        train_cities: cities that the training places are spread over.
        train_places: training places, at least 100 m apart within a city.
        images_per_place: least and most images of a training place.
        blocks: blocks of an evaluation city along each side (about 90 m each).
        database_spacing_m: distance between neighbouring database positions along a street.
        database_headings: images at each database position, evenly turned.
        num_queries: of each evaluation set.
        variety: 0 for clear days of the warm months, 1 for every season, weather and hour.
        night: share of photos taken at night, in training and in the sets ``val`` and ``test``.
        night_queries: the same for the queries of the set ``night``.
        query_heading_sd_deg: how far a query's heading strays from the nearest database heading.
        years: first and last year of the photos.
    """

    seed: int
    width: int
    height: int
    train_cities: int
    train_places: int
    images_per_place: list[int]
    blocks: int
    database_spacing_m: float
    database_headings: int
    num_queries: int
    variety: float
    night: float
    night_queries: float
    query_heading_sd_deg: float
    years: list[int]


@dataclass(frozen=True, config=_strict)
class CustomParams:
    """The user's own images.

    Args:
        source: CSV or Parquet table, or a folder in the standard naming; a relative path starts at the project's root.
            DVC watches it: when it changes, the dataset is listed anew.
        root: folder that image paths of a table start from; ``null`` for the table's own.
        columns: names in the table for the names expected here, such as ``{place_id: floor}``; with
            ``train_place_id`` training images get places of their own.
        splits: what a value of ``split`` means: ``train``, ``<set>/database`` or ``<set>/queries``; a list
            where an image plays several roles. Values that are spelt so need no entry.
    """

    source: str
    root: str | None
    columns: dict[str, str]
    splits: dict[str, str | list[str]]


@dataclass(frozen=True, config=_strict)
class CollectionParams:
    """Published sets put together: what to train on and what to evaluate on, both out of ``sources``.

    Args:
        train: training sets; several are joined.
        eval_sets: names that ``eval_sets`` and ``val_set`` go by here, and the source that each stands for.
        cities: training cities to keep; ``null`` for all.
        dates: first and last month of the training images to keep, such as ``[201501, 201912]``; ``null`` for all.
        share_of_places: share of each city's training places to keep, in (0, 1].
        seed: of the choice of that share.
    """

    train: list[str]
    eval_sets: dict[str, str]
    cities: list[str] | None
    dates: list[int] | None
    share_of_places: float
    seed: int


@dataclass(frozen=True, config=_strict)
class SourceParams:
    """Where one published set comes from, and what should be in it.

    Args:
        url: ``kaggle://owner/dataset``, ``gdrive://id`` of a file or folder, ``gdrive://folder id/file``,
            ``http(s)://`` or ``file://`` (archive or folder); ``null`` where its owner has to be asked for it.
        layout: ``gsv_xs`` (``<city>/<standard name>``, for training), ``gsv_cities`` (``Images``, ``Dataframes``, for
            training) or ``standard`` (database and queries, for evaluation).
        sha256: of the archive, or of each file by its name; ``null`` to hold later downloads against the first.
        folder: where in the source the set lies; found at any depth.
        database, queries: folders of an evaluation set.
        frame_window: positives are the database frames at most so many away from the query's, in file-name order.
        ground_truth: file in the source that lists the positives of each query, ``.npy``.
        allow_pickle: unpickle any object that ``ground_truth`` holds; it may run code.
        expected: what should be there: ``images``, ``places``, ``cities``, ``database``, ``queries``; a number, or
            least and most; for ``cities`` also their names.
    """

    url: str | None
    layout: Literal["gsv_xs", "gsv_cities", "standard"]
    sha256: str | dict[str, str] | None = None
    folder: str = ""
    database: str = "database"
    queries: str = "queries"
    frame_window: int | None = None
    ground_truth: str | None = None
    allow_pickle: bool = False
    expected: dict[str, int | list[int] | list[str]] = field(default_factory=dict)


DATASETS: dict[str, type] = {
    "synthetic": SyntheticParams,
    "custom": CustomParams,
    "gsv_xs": CollectionParams,
    "gsv_cities": CollectionParams,
}


@dataclass(frozen=True, config=_strict)
class VerifyParams:
    """What the verify stage does about damage.

    Args:
        on_problem: ``fail`` stops with the list of all problems; ``skip`` leaves the rows out and counts them.
        on_count_difference: whether counts other than a source's ``expected`` make it ``fail`` or ``warn``.
        queries_without_positives: ``keep`` them, so that they count as not found, as published recalls do; or
            ``leave_out``.
        num_workers: processes; ``null`` takes all cores.
    """

    on_problem: Literal["fail", "skip"]
    on_count_difference: Literal["fail", "warn"]
    queries_without_positives: Literal["keep", "leave_out"]
    num_workers: int | None


@dataclass(frozen=True, config=_strict)
class TrainParams:
    """The training loop's settings; one block for each dataset.

    Args:
        image_size: height and width that every image is resized to, in pixels.
        checkpoint: ``null`` to train; or the path of a checkpoint of this project, which is then evaluated as it is.
        weights: of the backbone: ``null`` for random weights, ``imagenet``, or the path of a state dict.
        layers_to_crop: stages of the backbone to leave out, such as ``[4]`` for the last; every backbone has four.
        layers_to_freeze: ``null`` trains all, ``0`` freezes what comes before the stages, ``n`` also the first ``n``.
        places_per_batch, images_per_place: a batch is places x images.
        min_images_per_place: places with fewer images are left out.
        sample_images: which images of a place make up a batch: ``random`` ones or the ``first``.
        shuffle_places: new batches of places in each epoch.
        batches: which places meet in a batch: ``random`` ones, those of one ``city``, or ``alike`` ones, looked for in
            each epoch by the current model's descriptors of one image of each place.
        alike_places: how many alike places meet; a batch has several such groups.
        min_place_distance_m: no two places of a batch are nearer to each other; 0 lets any meet.
        memory_size: descriptors of earlier batches that the loss compares a batch with as well; 0 for none.
        augment_ops: operations of RandAugment on each training image; 0 for none.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        momentum: of ``sgd``.
        warmup_steps: the learning rate rises linearly over these.
        milestones, lr_mult: epochs after which the learning rate is multiplied by ``lr_mult``.
        max_epochs: how many epochs.
        check_val_every_n_epochs: how often the validation recalls are computed.
        val_set: evaluation set for validation during training.
        monitor: validation metric that the best checkpoint maximises.
        precision: Lightning's, for the model; miner and loss always run in float32.
        accelerator, devices: Lightning's; ``auto`` takes a GPU when there is one.
        num_workers: loader processes; ``null`` takes one less than the cores, at most 8.
        max_memory_gb: what miner and loss may need for a batch; ``null`` measures the device.
        log_every_n_steps: rows of the training curve.
        seed: of weights, batches and augmentation.
    """

    checkpoint: str | None
    image_size: list[int]
    weights: str | None
    layers_to_crop: list[int]
    layers_to_freeze: int | None
    places_per_batch: int
    images_per_place: int
    min_images_per_place: int
    sample_images: Literal["random", "first"]
    shuffle_places: bool
    batches: Literal["random", "city", "alike"]
    alike_places: int
    min_place_distance_m: float
    memory_size: int
    augment_ops: int
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: float
    weight_decay: float
    momentum: float
    warmup_steps: int
    milestones: list[int]
    lr_mult: float
    max_epochs: int
    check_val_every_n_epochs: int
    val_set: str
    monitor: Literal["recall_at_1", "recall_at_5", "recall_at_10", "recall_at_20"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: int
    num_workers: int | None
    max_memory_gb: float | None
    log_every_n_steps: int
    seed: int


@dataclass(frozen=True, config=_strict)
class ExportParams:
    """The model that training left, as it is evaluated and used.

    Args:
        checkpoint: ``best`` by the validation recalls, or ``last``.
        image_size: height and width that images are resized to; ``null`` for the size the model was trained at.
        pca_dim: size of the descriptors after PCA, fitted on training images; ``null`` for no PCA.
        whiten: after PCA all directions vary alike.
        pca_images: training images that PCA is fitted on.
        seed: of their choice.
    """

    checkpoint: Literal["best", "last"]
    image_size: list[int] | None
    pca_dim: int | None
    whiten: bool
    pca_images: int
    seed: int


@dataclass(frozen=True, config=_strict)
class ExtractParams:
    """How descriptors are computed.

    Args:
        batch_size: images at a time.
        num_workers: loader processes; ``null`` takes one less than the cores, at most 8.
        accelerator: ``auto`` takes a GPU when there is one.
    """

    batch_size: int
    num_workers: int | None
    accelerator: Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, config=_strict)
class EvaluateParams:
    """How descriptors become recalls.

    Args:
        recall_at: the N of recall@N.
        positive_radius_m: a database image within it is a positive.
        num_predictions: predictions kept of each query.
        faiss_gpu: search on the GPU.
    """

    recall_at: list[int]
    positive_radius_m: float
    num_predictions: int
    faiss_gpu: bool


@dataclass(frozen=True, config=_strict)
class IndexParams:
    """What photos are located in.

    Args:
        set: evaluation set whose database it is; ``null`` for the first of ``eval_sets`` that is not validated on.
    """

    set: str | None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: ``1e-05``, as DVC writes it, is one, where YAML 1.1 reads a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"]
)

_SECTIONS: dict[str, type] = {
    "verify": VerifyParams,
    "export": ExportParams,
    "extract": ExtractParams,
    "evaluate": EvaluateParams,
    "index": IndexParams,
}
_COMPONENTS = {"backbone": "backbones", "agg": "aggregators", "loss": "losses", "miner": "miners"}
_KEYS = {"dataset", "eval_sets", "datasets", "sources", "train", *_SECTIONS, *_COMPONENTS, *_COMPONENTS.values()}


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The whole file as a mapping, its top-level keys checked."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; run from the project's root, where params.yaml lies")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping at the top, got {type(content).__name__}")
    _reject_unknown(content, _KEYS, str(path))
    missing = sorted(_KEYS - content.keys())
    if missing:
        raise ValueError(f"{path}: missing keys {missing}")
    for table in ("datasets", "sources", "train", *_COMPONENTS.values()):
        if not isinstance(content[table], Mapping):
            raise ValueError(f"{path}: {table} is {content[table]!r}; expected a block for each name")
    parse(content["dataset"], str, f"{path}: dataset")
    return content


def load_section(name: str, cls: type[T], path: Path = PARAMS_FILE) -> T:
    """A top-level section, such as ``evaluate``."""
    return parse(read_params(path)[name], cls, f"{path}: {name}")


def load_dataset_name(path: Path = PARAMS_FILE) -> str:
    """The chosen dataset's name."""
    name: str = read_params(path)["dataset"]
    if name not in DATASETS:
        raise ValueError(f"{path}: unknown dataset {name!r}; choose one of: {', '.join(sorted(DATASETS))}")
    return name


def load_dataset(path: Path = PARAMS_FILE) -> tuple[str, Any]:
    """The chosen dataset's name and its options."""
    content, name = read_params(path), load_dataset_name(path)
    return name, parse(_block(content, "datasets", name, path), DATASETS[name], f"{path}: datasets.{name}")


def load_eval_sets(path: Path = PARAMS_FILE) -> list[str]:
    """Names of the evaluation sets to extract and evaluate."""
    names: list[str] = parse(read_params(path)["eval_sets"], list[str], f"{path}: eval_sets")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path}: eval_sets is {names}; expected one or more names, each once")
    return names


def load_index_set(path: Path = PARAMS_FILE) -> str:
    """The evaluation set whose database photos are located in: ``index.set``, or the first that is not validated on."""
    content, names = read_params(path), load_eval_sets(path)
    chosen: str | None = parse(content["index"], IndexParams, f"{path}: index").set
    if chosen is None:
        others = [name for name in names if name != load_train(path).val_set]
        return (others or names)[0]
    if chosen not in names:
        raise ValueError(f"{path}: index.set is {chosen!r}; choose null or one of eval_sets: {', '.join(names)}")
    return chosen


def load_sources(path: Path = PARAMS_FILE) -> dict[str, SourceParams]:
    """The published sets, by name, their values checked."""
    sources = {}
    for name, options in read_params(path)["sources"].items():
        where = f"{path}: sources.{name}"
        source = parse(options, SourceParams, where)
        hashes = {"": source.sha256} if isinstance(source.sha256, str) else source.sha256 or {}
        wrong = [value for value in hashes.values() if not re.fullmatch(r"[0-9a-fA-F]{64}", value)]
        if wrong:
            raise ValueError(f"{where}.sha256 is {wrong[0]!r}; expected 64 hexadecimal digits")
        for what, number in source.expected.items():
            allowed = ("database", "queries") if source.layout == "standard" else ("images", "places", "cities")
            if what not in allowed:
                raise ValueError(f"{where}.expected has unknown keys [{what!r}]; choose from {list(allowed)}")
            names = what == "cities" and isinstance(number, list) and {type(n) for n in number} == {str}
            pair = isinstance(number, list) and len(number) == 2 and all(isinstance(n, int) for n in number)
            if not (isinstance(number, int) or names or (pair and number == sorted(number))):  # type: ignore[type-var]
                raise ValueError(f"{where}.expected.{what} is {number}; expected a number, or [least, most]")
        if source.frame_window is not None and (source.frame_window < 0 or source.ground_truth):
            raise ValueError(
                f"{where}.frame_window is {source.frame_window}; expected frames from 0, and no ground_truth"
            )
        sources[name] = source
    return sources


def _check_collection(content: Mapping[str, Any], name: str, sources: Mapping[str, SourceParams], path: Path) -> None:
    where = f"{path}: datasets.{name}"
    params: CollectionParams = parse(content["datasets"][name], CollectionParams, where)
    for key, names, training in (("train", params.train, True), ("eval_sets", params.eval_sets.values(), False)):
        fitting = sorted(s for s, source in sources.items() if (source.layout != "standard") == training)
        for source in names:
            if source not in fitting:
                raise ValueError(f"{where}.{key} names {source!r}; choose from the sources {fitting}")
    if not 0 < params.share_of_places <= 1:
        raise ValueError(f"{where}.share_of_places is {params.share_of_places}; expected a number in (0, 1]")
    if params.dates is not None and (
        len(params.dates) != 2 or not 100001 <= params.dates[0] <= params.dates[1] <= 999912
    ):
        raise ValueError(f"{where}.dates is {params.dates}; expected [first, last] as YYYYMM, such as [201501, 201912]")
    named = [sources[source].expected.get("cities") for source in params.train]
    if params.cities is not None and all(isinstance(cities, list) and isinstance(cities[0], str) for cities in named):
        known = {str(city).lower() for cities in named if isinstance(cities, list) for city in cities}
        unknown = [city for city in params.cities if city.lower() not in known]
        if unknown:
            raise ValueError(f"{where}.cities names {unknown}; choose from {sorted(known)}")
    if content["dataset"] == name:
        used = [*load_eval_sets(path), *load_validation_sets(path)]
        for eval_set in used:
            if eval_set not in params.eval_sets:
                raise ValueError(
                    f"{where}.eval_sets has no {eval_set!r}, which eval_sets or val_set names; it has "
                    f"{sorted(params.eval_sets)}"
                )
        for source in [*params.train, *params.eval_sets.values()]:
            if sources[source].url is None:
                raise ValueError(
                    f"{path}: sources.{source}.url is null: its owner has to be asked for it, see docs/datasets.md; "
                    "set the url to file:// and where you have it"
                )


def load_used_sources(path: Path = PARAMS_FILE) -> dict[str, SourceParams]:
    """The published sets that the chosen dataset is made of."""
    _, params = load_dataset(path)
    if not isinstance(params, CollectionParams):
        return {}
    sources = load_sources(path)
    return {name: sources[name] for name in dict.fromkeys([*params.train, *params.eval_sets.values()])}


def load_validation_sets(path: Path = PARAMS_FILE) -> list[str]:
    """The set that training validates on; none where a checkpoint is given instead."""
    params = load_train(path)
    return [params.val_set] if params.checkpoint is None else []


def load_evaluate(path: Path = PARAMS_FILE) -> EvaluateParams:
    """How descriptors become recalls, its ranges checked."""
    params = load_section("evaluate", EvaluateParams, path)
    if not params.recall_at or min(params.recall_at) < 1:
        raise ValueError(f"{path}: evaluate.recall_at is {params.recall_at}; expected whole numbers from 1")
    if params.positive_radius_m <= 0:
        raise ValueError(f"{path}: evaluate.positive_radius_m is {params.positive_radius_m}; expected metres above 0")
    if params.num_predictions < 1:
        raise ValueError(f"{path}: evaluate.num_predictions is {params.num_predictions}; expected at least 1")
    return params


def load_export(path: Path = PARAMS_FILE) -> ExportParams:
    """The model as it is evaluated, its ranges checked."""
    params = load_section("export", ExportParams, path)
    if params.image_size is not None and (len(params.image_size) != 2 or min(params.image_size) < 1):
        raise ValueError(
            f"{path}: export.image_size is {params.image_size}; expected null or [height, width] in pixels"
        )
    for key, least in (("pca_dim", 1), ("pca_images", 2), ("seed", 0)):
        value = getattr(params, key)
        if value is not None and value < least:
            raise ValueError(f"{path}: export.{key} is {value}; expected at least {least}")
    return params


def load_extract(path: Path = PARAMS_FILE) -> ExtractParams:
    """How descriptors are computed, its ranges checked."""
    params = load_section("extract", ExtractParams, path)
    if params.batch_size < 1:
        raise ValueError(f"{path}: extract.batch_size is {params.batch_size}; expected at least 1")
    return params


def load_train(path: Path = PARAMS_FILE) -> TrainParams:
    """The training settings of the chosen dataset."""
    content = read_params(path)
    name = content["dataset"]
    params = parse(_block(content, "train", name, path), TrainParams, f"{path}: train.{name}")
    where = f"{path}: train.{name}"
    if len(params.image_size) != 2 or min(params.image_size) < 1:
        raise ValueError(f"{where}.image_size is {params.image_size}; expected [height, width] in pixels")
    for key in ("places_per_batch", "images_per_place", "max_epochs", "check_val_every_n_epochs", "log_every_n_steps"):
        if getattr(params, key) < 1:
            raise ValueError(f"{where}.{key} is {getattr(params, key)}; expected at least 1")
    if params.min_images_per_place < params.images_per_place:
        raise ValueError(
            f"{where}.min_images_per_place is {params.min_images_per_place}, but a batch takes "
            f"{params.images_per_place} images of a place; raise it to at least images_per_place"
        )
    if params.check_val_every_n_epochs > params.max_epochs:
        raise ValueError(
            f"{where}.check_val_every_n_epochs is {params.check_val_every_n_epochs}, more than max_epochs "
            f"{params.max_epochs}; no epoch would be validated"
        )
    for key, least in _LEAST_OF_TRAIN:
        if getattr(params, key) < least:
            raise ValueError(f"{where}.{key} is {getattr(params, key)}; expected at least {least}")
    if params.devices != 1:
        raise ValueError(f"{where}.devices is {params.devices}; training runs on one device")
    if any(epoch < 1 for epoch in params.milestones):
        raise ValueError(f"{where}.milestones is {params.milestones}; expected epochs from 1")
    for key in ("weights", "checkpoint"):
        file = getattr(params, key)
        if file not in (None, "imagenet") and not Path(file).is_file():
            also = "null or imagenet" if key == "weights" else "null"
            raise FileNotFoundError(
                f"{where}.{key} is {file!r}, and there is no such file; choose {also}, or mend the path"
            )
    if params.lr <= 0:
        raise ValueError(f"{where}.lr is {params.lr}; expected a number above 0")
    return params


_LEAST_OF_TRAIN = (
    ("places_per_batch", 2),
    ("alike_places", 2),
    ("min_place_distance_m", 0),
    ("memory_size", 0),
    ("warmup_steps", 0),
    ("augment_ops", 0),
    ("weight_decay", 0),
    ("seed", 0),
)


def load_choice(key: str, path: Path = PARAMS_FILE) -> Choice:
    """The chosen component of a kind (``backbone``, ``agg``, ``loss`` or ``miner``) with its options."""
    content = read_params(path)
    name = parse(content[key], str, f"{path}: {key}")
    options = _block(content, _COMPONENTS[key], name, path)
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"{path}: {_COMPONENTS[key]}.{name} is {options!r}; expected its options, or {{}} for none")
    return Choice(name, dict(options or {}))


def check_all(path: Path = PARAMS_FILE) -> None:
    """Parse every section, also those of datasets that are not chosen.

    Raises:
        ValueError: for the first wrong key or value, with the valid ones.
    """
    content = read_params(path)
    for section, cls in _SECTIONS.items():
        parse(content[section], cls, f"{path}: {section}")
    for name, options in content["datasets"].items():
        if name not in DATASETS:
            raise ValueError(f"{path}: datasets has unknown keys [{name!r}]; choose from {sorted(DATASETS)}")
        parse(options, DATASETS[name], f"{path}: datasets.{name}")
    for name, options in content["train"].items():
        if name not in DATASETS:
            raise ValueError(f"{path}: train has unknown keys [{name!r}]; choose from {sorted(DATASETS)}")
        parse(options, TrainParams, f"{path}: train.{name}")
    load_dataset(path)
    load_eval_sets(path)
    load_evaluate(path)
    load_export(path)
    load_index_set(path)
    load_extract(path)
    load_train(path)
    sources = load_sources(path)
    for name, cls in DATASETS.items():
        if cls is CollectionParams and name in content["datasets"]:
            _check_collection(content, name, sources, path)


def parse(value: Any, cls: Any, where: str) -> Any:
    """``value`` as a ``cls``, strictly: no unknown key, no string taken for a number or a boolean.

    Raises:
        ValueError: naming the key, the value and what is allowed.
    """
    fields = getattr(cls, "__dataclass_fields__", None)
    if fields is not None:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}; expected the keys {sorted(fields)}")
        _reject_unknown(value, fields, where)
    try:
        return cls(**value) if fields is not None else TypeAdapter(cls).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(
            str(part) for part in first["loc"] if not str(part).startswith(("list[", "dict[", "constrained"))
        )
        if first["type"] == "missing":
            raise ValueError(f"{where} lacks the key {key!r}") from None
        name = key.partition(".")[0]
        allowed = (
            _allowed(fields[name].type) if fields and name in fields else first["msg"] if fields else _allowed(cls)
        )
        raise ValueError(f"{where}{'.' + key if key else ''} is {first['input']!r}; expected {allowed}") from None


def _allowed(annotation: Any) -> str:
    annotation = eval(annotation, globals()) if isinstance(annotation, str) else annotation
    if get_origin(annotation) is Literal:
        return "one of: " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _allowed(a) for a in get_args(annotation))
    plain = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a string",
        list[int]: "a list of whole numbers",
        list[str]: "a list of names",
    }
    return plain.get(annotation, str(annotation))


def _block(content: Mapping[str, Any], table: str, name: str, path: Path) -> Any:
    blocks = content[table]
    if not isinstance(blocks, Mapping) or name not in blocks:
        known = ", ".join(sorted(blocks or []))
        raise ValueError(f"{path}: {table} has no block {name!r}; choose one of: {known}")
    return blocks[name]


def _reject_unknown(value: Mapping[str, Any], known: Any, where: str) -> None:
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise ValueError(f"{where} has unknown keys {unknown}; choose from {sorted(known)}")
