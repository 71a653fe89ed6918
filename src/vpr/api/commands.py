"""What the commands ``models``, ``push``, ``export``, ``demo`` and ``fetch`` do."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from vpr.config.errors import UserError
from vpr.config.project import find_project


def models(args: argparse.Namespace) -> int:
    """List models, fetch one, or say what is known of one."""
    from vpr.api import names

    if args.action == "list":
        return _list_models()
    if not args.name:
        raise UserError(f"name a model: vpr models {args.action} megaloc")
    if args.action == "pull":
        with redirect_stdout(sys.stderr):  # the path alone is for $(...)
            checkpoint = names.pull(args.name, args.mirror)
        print(checkpoint)
        return 0
    known = names.facts(args.name)
    width = max(len(key) for key in known)
    for key, value in known.items():
        print(f"{key.replace('_', ' '):<{width}}  {value}")
    for row in names.published_recalls(args.name):
        values = ", ".join(f"R@{n} {row[f'recall_at_{n}']}" for n in (1, 5) if row[f"recall_at_{n}"])
        print(f"{'published':<{width}}  {row['set']}: {f'{values}, by' if values else 'see'} {row['source']}")
    return 0


def _list_models() -> int:
    from tabulate import tabulate

    from vpr.api import names
    from vpr.api.published import PUBLISHED

    columns = ("name", "descriptor_dim", "image_size", "trained_on", "licence")
    rows: list[dict[str, Any]] = []
    for name in PUBLISHED:
        known = names.facts(name)
        fetched = known["checkpoint"] != "not fetched"
        rows.append({key.replace("_", " "): known[key] for key in columns} | {"fetched": "yes" if fetched else ""})
    print(tabulate(rows, headers="keys", disable_numparse=True))
    if find_project(Path.cwd()) is None:
        return 0
    try:
        from vpr.experiments.registry import registered_models
        from vpr.experiments.runs import finished_runs
    except ModuleNotFoundError as error:
        print(f"\nruns and registered models are MLflow's, and {error.name} is not installed", file=sys.stderr)
        return 0

    own = [{"name": name, "run": run, "recall": ""} for name, run in registered_models()]
    for run in finished_runs():
        recalls = ", ".join(
            f"{name} {100 * value:.1f}"
            for name in run.sets()
            if (value := run.metrics.get(f"{name}/recall_at_1")) is not None
        )
        own.append({"name": f"runs:/{run.id}", "run": run.name, "recall": recalls})
    if own:
        print()
        print(tabulate([{**row, "recall@1": row.pop("recall")} for row in own], headers="keys", disable_numparse=True))
    return 0


def push(args: argparse.Namespace) -> int:
    """Put a model on the Hugging Face Hub, or into a folder."""
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from vpr.api import hub
    from vpr.config.project import git_commit
    from vpr.model.checkpoint import load_checkpoint

    if (args.name is None) == (args.folder is None):
        raise UserError("name the repository, owner/name, or a --folder to write instead")
    model, metadata = load_checkpoint(args.model)
    recalls = {}
    if args.recalls is not None:
        files = sorted(args.recalls.glob("*.json"))
        if not files:
            raise UserError(
                f"{args.recalls}: no recalls, which are <set>.json; run `dvc repro`, or leave --recalls out"
            )
        recalls = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    source = metadata.get("configuration", {}).get("dataset", {}).get("name", "")
    licence = args.license or ("" if source.startswith("https://") else "mit")
    if not licence:
        raise UserError(f"these are weights of {source}; name their licence with --license, as that page states it")
    commit = git_commit() if find_project(Path.cwd()) else "unknown"
    card = hub.model_card(args.name, metadata, asdict(model.spec), model.descriptor_dim, recalls, licence, commit)
    if args.folder is not None:
        hub.write_folder(args.model, args.folder, card)
        print(f"{args.folder}: {hub.WEIGHTS}, {hub.CONFIG} and {hub.CARD}")
        return 0
    with TemporaryDirectory() as folder:
        hub.write_folder(args.model, Path(folder), card)
        print(hub.upload(Path(folder), args.name, args.private))
    return 0


def export(args: argparse.Namespace) -> int:
    """Write a model in another format."""
    from vpr.api.export import export_onnx, export_torch

    out, write = (args.onnx, export_onnx) if args.onnx is not None else (args.pt2, export_torch)
    facts = write(args.model, out)
    size = "×".join(map(str, facts["image_size"]))
    print(
        f"{out}: {facts['bytes'] / 10**6:.1f} MB, images {size} -> {facts['descriptor_dim']} numbers; "
        f"its descriptors differ from the model's by at most {facts['largest_difference']:.0e}"
    )
    return 0


def demo(args: argparse.Namespace) -> int:
    """Serve a page to drop photos on, until interrupted."""
    from vpr.localization.answers_page import Shown
    from vpr.localization.lance_index import open_index
    from vpr.localization.localizer import Localizer
    from vpr.localization.server import Limits, serve
    from vpr.model.device import pick_device

    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; expected 0 to 65535")
    limits = Limits(
        args.max_body_mb, args.max_photos, args.max_megapixels, args.max_seconds, args.max_requests, args.per_minute
    )
    index = open_index(args.index)
    localizer = Localizer.open(args.model, index, pick_device("auto"))
    shown = Shown.of("Where was this photo taken?", index, photos_of(index, args.database_photos))
    print(f"drop photos on http://{args.host}:{args.port}/; Ctrl-C ends it", flush=True)
    serve(localizer, args.host, args.port, limits, shown)
    return 0


def photos_of(index: Any, given: Path | None) -> Path | None:
    """The folder of a database's photos: as given, or of a run of this project; ``None`` where that is not known.

    Which folder an index of files names is not looked at: a stranger's could name any.

    Raises:
        UserError: if the folder that was given is not there.
    """
    from vpr.data.described_set import DescribedSet

    if given is not None:
        if not given.is_dir():
            raise UserError(f"{given}: no such folder")
        return given
    described = Path("data/descriptors") / index.facts.name.removeprefix(f"{index.facts.dataset} ")  # by its set
    is_ours = index.facts.dataset and described.resolve().parent == Path("data/descriptors").resolve()
    return DescribedSet.load(described).database.manifest.folder if is_ours and described.is_dir() else None


def fetch(args: argparse.Namespace) -> int:
    """Fetch photos of an area as a dataset."""
    import scipy  # noqa: F401  # that it is missing is said before anything is fetched

    from vpr.api.mapillary import Area, fetch_area, parse_box, parse_since

    if not 0 < args.queries < 1:
        raise UserError(f"--queries is {args.queries:g}; expected a share between 0 and 1")
    area = Area(parse_box(args.bbox), parse_since(args.since), args.panoramas)
    table = fetch_area(area, args.out, args.queries, args.seed, args.radius_m)
    print(
        f"{table}: evaluate on it with dataset custom, datasets.custom.images.source {table}, and eval_sets [street]; "
        "images are CC BY-SA 4.0, and the table says who made each"
    )
    return 0
