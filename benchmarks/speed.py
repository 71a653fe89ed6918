"""Measure each part against a named baseline, in ratios of one run: ``make bench``.

The baselines are written out here: the path of gsv-cities (Pillow, torchvision's RandAugment, float32 from the worker),
the usual evaluation loop (Pillow, torchvision's transforms, float32, channels first), a training on a batch that is
already in memory, and FAISS's flat index. A baseline and its rival take turns, and a ratio is that of the medians.

``training`` and ``indexes`` need the embedded city in data/ (`dvc repro`); ``gpu`` needs a GPU, and is measured when it
is named.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the stages set it, before torch is loaded

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from tabulate import tabulate
from tools.docs.performance import default_of
from torch import Tensor
from torchvision.transforms import v2

from vpr.config.params import Params
from vpr.data.augmentation import NUM_DRAWS, rand_augment
from vpr.data.loading import ImageList, loader_processes
from vpr.data.manifest import DATABASE, QUERY, TRAIN, Manifest, make_manifest, read_manifest, write_manifest
from vpr.data.preprocess import Preprocess
from vpr.descriptors.described_set import DescribedSet
from vpr.evaluation.evaluation import compare_rankings, evaluate_ranking
from vpr.model.describing import Describer
from vpr.model.device import pick_device
from vpr.model.spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.report.report_page import render
from vpr.report.sections import Report, TrainingSection
from vpr.report.set_input import SetInput
from vpr.report.set_section import set_section
from vpr.report.thumbnails import THUMB_BYTES, Thumbnails
from vpr.retrieval.params import EvaluateParams
from vpr.retrieval.positives import positives_of
from vpr.retrieval.recall import recall_at
from vpr.retrieval.search import approximate_index, search, search_in, size_bytes
from vpr.training.batches import PlaceSampler
from vpr.training.build import build_criterion, build_model
from vpr.training.configuration import RunConfiguration, load_configuration
from vpr.training.places import PlaceImages, Places
from vpr.training.run import describe_by, keep_decoded
from vpr.training.validation import validation_of
from vpr.verification.checks import verify

RESULTS = Path("benchmarks/results")
BATCH = 64
Result = dict[str, Any]


def in_turns(parts: dict[str, Callable[[], int]], repeats: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Images a second of each part, which returns how many it did; the first, warming turn is left out."""
    rates: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(repeats + 1):
        for name, run in parts.items():
            began = clock()
            number = run()
            if turn:
                rates[name].append(number / (clock() - began))
    return rates


def compared(what: str, baseline: str, rates: dict[str, list[float]], goal: float | None) -> list[Result]:
    """A row for each rival of the baseline."""
    base = rates[baseline]
    return [
        {
            "what": what,
            "rival": name,
            "baseline": baseline,
            "per_s": round(statistics.median(values), 1),
            "baseline_per_s": round(statistics.median(base), 1),
            "ratio": round(statistics.median(values) / statistics.median(base), 2),
            "least": round(min(values) / max(base), 2),
            "most": round(max(values) / min(base), 2),
            "goal": goal,
        }
        for name, values in rates.items()
        if name != baseline
    ]


def drawn_photo(rng: np.random.Generator) -> Image.Image:
    """Noise whose amplitude falls with its frequency, as in photos."""
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(300) * 300, np.fft.rfftfreq(400) * 400, indexing="ij"))
    grey = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((300, 400))) / np.maximum(waves, 1) ** 1.5)
    colour = np.stack([grey, 0.9 * grey, 0.8 * grey], axis=-1)
    return Image.fromarray((128 + 50 * colour / grey.std()).clip(0, 255).astype(np.uint8))


def some_photos(folder: Path | None, scratch: Path) -> list[Path]:
    """Files of JPEGs: some of a folder, or drawn ones of 400 x 300 pixels and 24 KB, as in GSV-Cities."""
    if folder is not None:
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[: 2 * BATCH]
    return drawn_photos(scratch)


def drawn_photos(folder: Path, number: int = BATCH) -> list[Path]:
    """Files of drawn photos."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{k}.jpg" for k in range(number)]
    for path in paths:
        drawn_photo(rng).save(path, "JPEG", quality=85)
    return paths


def input_path(photos: list[Path], repeats: int) -> list[Result]:
    """CPU time of one core, from files to batches of 320 x 320."""
    torch.set_num_threads(1)
    size, to_float = (320, 320), v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    normalise = v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))
    augment = v2.RandAugment(num_ops=3, interpolation=v2.InterpolationMode.BILINEAR)
    model = VPRModel(ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "avg", {}, size))
    draws = np.random.default_rng(0).integers(0, NUM_DRAWS, (len(photos), 3))
    preprocess = Preprocess(size)

    def with_pillow(*steps: Callable[[Any], Any]) -> int:
        images = []
        for path in photos:
            image: Any = Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
            for step in steps:
                image = step(image)
            images.append(image)
        return len(torch.stack(images))

    def ours() -> Tensor:
        return torch.stack([preprocess.read(path) for path in photos])

    training: dict[str, Callable[[], int]] = {
        "gsv-cities' path": lambda: with_pillow(augment, to_float, normalise),
        "worker's part, before augmentation": lambda: len(ours()),
        "with augmentation on the same core": lambda: len(model.normalised(rand_augment(ours(), draws))),
    }
    evaluation: dict[str, Callable[[], int]] = {
        "Pillow": lambda: with_pillow(to_float, normalise),
        "worker's part, before normalisation": lambda: len(ours()),
        "normalised on the same core": lambda: len(model.normalised(ours())),
    }
    rows = compared(
        "file to training batch", "gsv-cities' path", in_turns(training, repeats, time.process_time), 5.5
    ) + compared("file to evaluation batch", "Pillow", in_turns(evaluation, repeats, time.process_time), 3.4)
    torch.set_num_threads(os.cpu_count() or 1)
    return rows


def extraction(photos: list[Path], repeats: int) -> list[Result]:
    """The extract stage's loop against the usual one, on two sizes of model."""
    rows = []
    device = pick_device("auto")
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))]
    )
    for size, crop in (((60, 80), [3, 4]), ((320, 320), [4])):
        torch.manual_seed(0)
        model = VPRModel(ModelSpec("resnet18", {"layers_to_crop": crop}, "cosplace", {}, size)).eval()
        chosen = photos * 32 if size[0] < 100 else photos * 2
        out = np.empty((len(chosen), model.descriptor_dim), np.float32)
        usual_out = np.empty_like(out)
        images = ImageList(Path(), map(str, chosen), model.spec.preprocess())

        class Usual(torch.utils.data.Dataset[Tensor]):
            def __len__(self) -> int:
                return len(chosen)  # noqa: B023

            def __getitem__(self, index: int) -> Tensor:
                image = Image.open(chosen[index]).convert("RGB")  # noqa: B023
                tensor: Tensor = transform(image.resize(size[::-1], Image.Resampling.BILINEAR))  # noqa: B023
                return tensor

        def usual() -> int:
            loader = torch.utils.data.DataLoader(Usual(), batch_size=32, num_workers=loader_processes(None))
            row = 0
            plain = model.to(memory_format=torch.contiguous_format).to(device)  # noqa: B023
            with torch.inference_mode():
                for batch in loader:
                    described = plain(batch.to(device)).cpu().numpy()
                    usual_out[row : row + len(described)] = described  # noqa: B023
                    row += len(described)
            return row

        def ours() -> int:
            Describer(model, device).describe(images, out)  # noqa: B023
            return len(out)  # noqa: B023

        rates = in_turns({"the usual loop": usual, "extract": ours}, repeats, time.perf_counter)
        note = f"descriptors within {np.abs(out - usual_out).max():.1e}"
        found = compared(f"extraction at {size[0]}x{size[1]}", "the usual loop", rates, 1.5)
        rows += [{**row, "note": note} for row in found]
    return rows


def training(repeats: int) -> list[Result]:
    """The embedded city's training, end to end, against the same steps on a batch that is in memory."""
    configuration = load_configuration(Params.read())
    train = read_manifest(Path("data/manifest/train.parquet"))
    validation = read_manifest(Path(f"data/manifest/sets/{configuration.settings.val_set}.parquet"))
    return training_rows("training the embedded city", configuration, train, validation, repeats, 0.95)


# Models to train on a GPU and the images per second that are expected; images are decoded in each epoch.
ON_A_GPU = {
    "ResNet-18 + CosPlace, 100x4, 320 px": (
        {"backbone": "resnet18", "agg": "cosplace", "train.cache_gb": 0},
        {"image_size": [320, 320], "layers_to_crop": [], "places_per_batch": 100},
        6000,
    ),
    "DINOv2-B + SALAD, 60x4, 224 px": (
        {
            "backbone": "dinov2_vitb14", "agg": "salad", "train.cache_gb": 0,
            "backbones.dinov2_vitb14.trained_blocks": 4,
        },
        {"image_size": [224, 224], "layers_to_crop": [], "places_per_batch": 60},
        2000,
    ),
}  # fmt: skip


def training_on_a_gpu(repeats: int, scratch: Path) -> list[Result]:
    """The models that a GPU is asked for, from JPEG files of 400 x 300, against a batch in memory; random weights."""
    if not torch.cuda.is_available():
        sys.exit("gpu: no GPU here, so nothing is measured")
    photos, folder = drawn_photos(scratch), scratch / "places"
    table = pd.DataFrame({"image": [f"{k // 4:05d}/{k % 4}.jpg" for k in range(12_800)], "role": TRAIN})
    table["place_id"] = table["image"].str[:5]
    train = make_manifest("places", str(folder), table)
    database, queries = drawn_rows(1000)
    validation = make_manifest("places", str(folder), pd.concat([database, queries]))
    link_photos(photos, folder, pd.concat([train.rows["image"], validation.rows["image"]]))
    rows = []
    for what, (changes, own, goal) in ON_A_GPU.items():
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        params["dataset"] = "custom"
        params["datasets"]["custom"]["train"] |= {**own, "augment_ops": 3, "num_workers": None}
        for key, value in changes.items():
            *path, last = key.split(".")
            functools.reduce(dict.__getitem__, path, params)[last] = value
        file = scratch / "params.yaml"
        file.write_text(yaml.safe_dump(params), encoding="utf-8")
        found = training_rows(what, load_configuration(Params.read(file)), train, validation, repeats, 0.9)
        rows += [{**row, "note": f"the goal is {goal:,} images a second as well"} for row in found]
    return rows


def training_rows(
    what: str, configuration: RunConfiguration, manifest: Manifest, held_out: Manifest, repeats: int, goal: float
) -> list[Result]:
    """A training of two epochs, end to end, against the same steps on a batch that is in memory."""
    from vpr.training.loop import TrainingModule, fit, precision_of

    settings = configuration.settings.model_copy(update={"max_epochs": 2, "check_val_every_n_epochs": 2})
    rows = manifest.train()
    places = Places(rows, settings.min_images_per_place)
    workers = loader_processes(settings.num_workers)
    device = pick_device(settings.accelerator)
    validation = validation_of(
        held_out, configuration.spec, settings, Params.read().section(EvaluateParams).positive_radius_m
    )
    images = ImageList(manifest.folder, rows["image"], configuration.spec.preprocess())
    keep_decoded(settings.cache_gb, workers, 1, images, *(loader.dataset for loader in validation.loaders))

    def end_to_end() -> float:
        model = build_model(configuration, None)
        criterion = build_criterion(configuration, model.descriptor_dim, len(places))
        rates: list[float] = []

        def report(values: dict[str, float], step: int) -> None:
            if "images_per_s" in values:
                rates.append(values["images_per_s"])

        with tempfile.TemporaryDirectory() as scratch:
            sampler = PlaceSampler(places, settings, describe_by(model, images, device, settings))
            dataset = PlaceImages(images, augment=device.type == "cpu")
            fit(model, criterion, dataset, sampler, validation, settings, workers, Path(scratch), report)
        return statistics.median(rates[len(rates) // 2 :])  # the second epoch

    def resident() -> float:
        model = build_model(configuration, None)
        criterion = build_criterion(configuration, model.descriptor_dim, len(places))
        module = TrainingModule(model, criterion, settings, 1, validation).to(device).train()
        optimizer = module.configure_optimizers()["optimizer"]
        random = PlaceSampler(places, settings.model_copy(update={"batches": "random"}))
        batch = PlaceImages(images)[next(iter(random))].to(device)
        rates = []
        for _ in range(60):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision_of(settings) == "bf16-mixed"):
                descriptors = model(batch.images)
            loss, _ = criterion(descriptors, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss.detach())
            rates.append(len(batch.labels) / (time.perf_counter() - began))
        return statistics.median(rates[10:])

    rates: dict[str, list[float]] = {"a batch in memory": [], "training, end to end": []}
    for _ in range(repeats):
        rates["a batch in memory"].append(resident())
        rates["training, end to end"].append(end_to_end())
    return compared(what, "a batch in memory", rates, goal)


def searching(number: int, num_queries: int, dim: int, how: str, file: Path) -> Result:
    """One search in a process of its own: seconds and the most memory that it took."""
    import faiss

    rng = np.random.default_rng(1)
    database = np.load(file, mmap_mode="r")
    queries = rng.standard_normal((num_queries, dim), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    began = time.perf_counter()
    if how == "flat":
        index = faiss.IndexFlatL2(dim)
        index.add(np.ascontiguousarray(database))
        _, ranking = index.search(queries, 20)
    else:
        ranking, _ = search(database, queries, 20)
    seconds = time.perf_counter() - began
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gib": gib, "sum": int(ranking.sum())}


def search_rows(number: int, num_queries: int, dim: int, scratch: Path) -> list[Result]:
    """Exact search of many images, against FAISS's flat index."""
    file = scratch / "database.npy"
    rng = np.random.default_rng(0)
    database = np.lib.format.open_memmap(file, "w+", np.float32, (number, dim))
    for start in range(0, number, 100_000):
        block = rng.standard_normal((min(100_000, number - start), dim), dtype=np.float32)
        database[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    del database
    found = {}
    for how in ("flat", "ours"):
        command = [sys.executable, __file__, "--search-one", how, str(file), str(number), str(num_queries), str(dim)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
        found[how] = json.loads(done.stdout.splitlines()[-1])
    flat, ours = found["flat"], found["ours"]
    return [
        {
            "what": f"{num_queries:,} queries in {number:,} x {dim}, exact",
            "rival": "search",
            "baseline": "FAISS flat",
            "per_s": round(num_queries / ours["seconds"], 1),
            "baseline_per_s": round(num_queries / flat["seconds"], 1),
            "ratio": round(flat["seconds"] / ours["seconds"], 2),
            "goal": 0.91,
            "note": f"{ours['gib']:.1f} GiB of memory against {flat['gib']:.1f}; "
            + ("the same neighbours" if ours["sum"] == flat["sum"] else "neighbours that differ"),
        }
    ]


INDEXES = ("SQfp16", "SQ8", "SQ8,RFlat", "RaBitQ", "RaBitQ,RFlat", "PQ64", "PQ64,RFlat", "HNSW32", "IVF16,Flat")


def index_rows() -> list[Result]:
    """Measure what each index loses in recall and in exact neighbours on the embedded city; nothing is timed."""
    radius_m = Params.read().section(EvaluateParams).positive_radius_m
    rows: list[Result] = []
    for name in Params.read().eval_sets:
        described = DescribedSet.load(Path(f"data/descriptors/{name}"))
        database, queries = (np.array(part.descriptors) for part in (described.database, described.queries))
        positives = positives_of(described.database.rows, described.queries.rows, radius_m)
        exact, _ = search(database, queries, 20)
        for factory in INDEXES:
            index = approximate_index(factory, database)
            found, _ = search_in(index, queries, 20)
            lost = compare_rankings(exact, found, positives, [1, 5, 20])
            recall = recall_at(exact, positives or [], [1])[1]
            sizes = {"bytes": round(size_bytes(index) / len(database)), "dim": database.shape[1]}
            rows.append({"what": factory, "set": name, **sizes, "recall_at_1": recall, **lost})
    return rows


def growth(most: int, photos: list[Path], scratch: Path) -> list[Result]:
    """Seconds of the parts whose cost grows with the database, from 1,000 images on; nothing is compared.

    Verify and the report are taken up to 100,000 images, which are links to a few files.
    """
    os.environ["DATA_ROOT"] = str(scratch / "data")  # verify remembers there what it has read
    rows: list[Result] = []
    for number in (n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= most):
        folder = scratch / f"photos-{number}"
        database, queries = drawn_rows(number)
        descriptors = np.random.default_rng(0).standard_normal((number, 512), dtype=np.float32)
        file = scratch / "manifest.parquet"
        manifest = make_manifest("x", str(folder), pd.concat([database, queries]))
        if number <= 100_000:
            link_photos(photos, folder, manifest.rows["image"])
        kept: dict[str, Any] = {}

        def searched() -> None:
            kept["found"] = search(descriptors, descriptors[: len(queries)], 20)  # noqa: B023

        def evaluated() -> None:
            kept["evaluation"] = evaluate_ranking(*kept["found"], database, queries, [1, 5, 10, 20], 25.0)  # noqa: B023

        def reported() -> None:
            parts = (Manifest("x", str(folder), part) for part in (database, queries))  # noqa: B023
            evaluation = kept["evaluation"]  # noqa: B023
            given, thumbnails = (
                SetInput("val", *parts, evaluation.predictions, evaluation.metrics),
                Thumbnails(THUMB_BYTES),
            )
            section = set_section(given, 25.0, None, thumbnails, None)
            render(Report("x", "", [], ["x"], [section], thumbnails.encoded, TrainingSection()))

        work: dict[str, Callable[[], object]] = {
            "verify, files included": lambda: verify(manifest, 25.0),  # noqa: B023
            "write the manifest": lambda: write_manifest(manifest, file),  # noqa: B023
            "read it": lambda: read_manifest(file),  # noqa: B023
            "positives of 1,000 queries": lambda: positives_of(database, queries, 25.0),  # noqa: B023
            "search for 1,000 queries, 512 numbers each": searched,
            "evaluate them": evaluated,
            "the report": reported,
        }
        for what, part in work.items():
            if number > 100_000 and what in ("verify, files included", "the report"):
                continue
            began = time.perf_counter()
            part()
            rows.append({"what": what, "images": number, "seconds": round(time.perf_counter() - began, 4)})
    return rows


def drawn_rows(number: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A database with as many images an area whatever their number, and 1,000 queries in it."""
    rng = np.random.default_rng(0)
    side_m = 10 * int(number**0.5)
    database = pd.DataFrame(
        {
            "image": [f"database/{k % 100:02d}/{k:07d}.jpg" for k in range(number)],
            "role": DATABASE,
            "set": "val",
            "utm_east": 500_000 + rng.uniform(0, side_m, number),
            "utm_north": 4_900_000 + rng.uniform(0, side_m, number),
            "utm_zone": "32T",
        }
    )
    queries = database.sample(1000, random_state=0).assign(role=QUERY)
    queries["image"] = "queries/" + queries["image"].str[9:]
    return make_manifest("x", "", database).rows, make_manifest("x", "", queries).rows


def link_photos(photos: list[Path], folder: Path, images: Iterable[str]) -> None:
    """Photos under the names of many, without their bytes."""
    for number, image in enumerate(images):
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(photos[number % len(photos)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["input", "extraction", "training", "search", "indexes", "growth"])
    parser.add_argument("--photos", type=Path, help="folder of JPEGs; drawn ones by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--database", type=int, default=1_000_000, help="images that are searched")
    parser.add_argument("--name", default=f"{platform.machine()}-{os.cpu_count()}-cores", help="of the machine")
    parser.add_argument("--search-one", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search_one:
        how, file, *sizes = args.search_one
        number, num_queries, dim = map(int, sizes)
        print(json.dumps(searching(number, num_queries, dim, how, Path(file))))
        return
    path = RESULTS / f"{args.name}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"parts": {}}
    with tempfile.TemporaryDirectory() as scratch:
        photos = some_photos(args.photos, Path(scratch))
        run: dict[str, Callable[[], list[Result]]] = {
            "input": lambda: input_path(photos, args.repeats),
            "extraction": lambda: extraction(photos, args.repeats),
            "training": lambda: training(min(3, args.repeats)),
            "gpu": lambda: training_on_a_gpu(min(3, args.repeats), Path(scratch)),
            "search": lambda: search_rows(args.database, 10_000, 512, Path(scratch)),
            "indexes": index_rows,
            "growth": lambda: growth(args.database, drawn_photos(Path(scratch)), Path(scratch)),
        }
        for part in args.parts:
            known["parts"][part] = {"date": time.strftime("%Y-%m-%d"), "rows": run[part]()}
            if part in ("training", "indexes"):  # these depend on the defaults of params.yaml
                known["parts"][part]["default"] = default_of(Params.read())
            known["machine"] = machine()
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
            print(tabulate(known["parts"][part]["rows"], headers="keys"), flush=True)


def machine() -> str:
    """Describe the machine."""
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{platform.machine()}, {os.cpu_count()} cores{device}, {versions}"


if __name__ == "__main__":
    main()
