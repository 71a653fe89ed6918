"""``vpr models``, ``vpr reproduce`` and ``vpr fetch``: get models and photos."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from vpr.commands.arguments import Commands, positive
from vpr.config.errors import UserError
from vpr.config.project import find_project


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    one = commands.add("models", models, "list models, fetch a published one, or print its properties")
    one.add_argument("action", nargs="?", choices=("list", "pull", "info"), default="list", help="what to do")
    one.add_argument("name", nargs="?", metavar="NAME", help="name of the model, for pull and info")
    one.add_argument("--mirror", metavar="URL", help="another address of the weights, for pull")
    one.add_argument("--file", type=Path, help="downloaded file of the weights, for pull")

    one = commands.add(
        "reproduce", reproduce, "evaluate a published model, and compare it with its published recalls", True
    )
    one.add_argument("row", nargs="?", metavar="MODEL/SET", help="row of docs/reproduction.md; all are listed without")

    one = commands.add(
        "protocols",
        protocols,
        "compare a model's recall under every protocol of a set, beside the published ones",
        True,
    )
    one.add_argument("row", metavar="MODEL/SET", help="model, and evaluation set of data/sources.yaml")

    one = commands.add("fetch", fetch, "fetch photos of an area as a dataset")
    one.add_argument("source", choices=("mapillary",), help="source of the photos; needs MAPILLARY_TOKEN")
    one.add_argument("--bbox", required=True, metavar="W,S,E,N", help="west, south, east and north, in degrees")
    one.add_argument("--out", type=Path, required=True, help="folder to write; an existing one is continued")
    one.add_argument("--since", default="", metavar="DATE", help="only photos since a date such as 2019 or 2019-06-30")
    one.add_argument("--panoramas", action="store_true", help="keep panoramas")
    one.add_argument("--queries", type=float, default=0.2, help="share of the photos that become queries, by drives")
    one.add_argument("--radius-m", type=positive(float), default=25.0, help="largest distance of a positive, in metres")
    one.add_argument("--seed", type=int, default=1, help="seed for the choice of drives")


def models(args: argparse.Namespace) -> int:
    """List models, fetch one, or print its properties."""
    from vpr.published import find_model

    if args.action == "list":
        return _list_models()
    if not args.name:
        raise UserError(f"name a model, such as: vpr models {args.action} megaloc")
    if args.action == "pull":
        with redirect_stdout(sys.stderr):  # so that $(...) gets only the path
            checkpoint = find_model.pull(args.name, args.mirror, args.file)
        print(checkpoint)
        return 0
    known = find_model.facts(args.name)
    width = max(len(key) for key in known)
    for key, value in known.items():
        print(f"{key.replace('_', ' '):<{width}}  {value}")
    for row in find_model.published_recalls(args.name):
        values = ", ".join(f"R@{n} {row[f'recall_at_{n}']}" for n in (1, 5) if row[f"recall_at_{n}"])
        print(f"{'published':<{width}}  {row['set']}: {f'{values}, by' if values else 'see'} {row['source']}")
    return 0


def _list_models() -> int:
    from tabulate import tabulate

    from vpr.published.find_model import facts
    from vpr.published.table import PUBLISHED

    columns = ("name", "descriptor_dim", "image_size", "trained_on", "licence")
    rows: list[dict[str, Any]] = []
    for name in PUBLISHED:
        known = facts(name)
        fetched = known["checkpoint"] != "not fetched"
        rows.append({key.replace("_", " "): known[key] for key in columns} | {"fetched": "yes" if fetched else ""})
    print(tabulate(rows, headers="keys", disable_numparse=True))
    if find_project(Path.cwd()) is None:
        return 0
    try:
        from vpr.experiments.promotion import registered_models
        from vpr.experiments.runs import finished_runs
    except ModuleNotFoundError as error:
        print(f"\nruns and registered models need {error.name}, which is not installed", file=sys.stderr)
        return 0

    own = [{"name": name, "run": run, "recall@1": ""} for name, run in registered_models()]
    for run in finished_runs():
        recalls = ", ".join(
            f"{name} {100 * value:.1f}"
            for name in run.sets()
            if (value := run.metrics.get(f"{name}/recall_at_1")) is not None
        )
        own.append({"name": f"runs:/{run.id}", "run": run.name, "recall@1": recalls})
    if own:
        print()
        print(tabulate(own, headers="keys", disable_numparse=True))
    return 0


def reproduce(args: argparse.Namespace) -> int:
    """Evaluate a published model with the protocol of a set, and print its recalls beside the published ones."""
    import subprocess

    from vpr.published import reproduction
    from vpr.sources.catalogue import load_sources

    rows = reproduction.read_published()
    if args.row is None:
        print("\n".join(row.name for row in rows))
        return 0
    changes = reproduction.overrides(args.row, rows, load_sources(Path("data/sources.yaml")))
    command = [sys.executable, "-m", "dvc", "exp", "run", *(part for change in changes for part in ("-S", change))]
    done = subprocess.run(command, check=False).returncode
    if done:
        return done
    row = next(row for row in rows if row.name == args.row)
    metrics = json.loads(Path(f"metrics/recalls/{row.set}.json").read_text(encoding="utf-8"))
    print(reproduction.beside(row, metrics))
    return 0


def protocols(args: argparse.Namespace) -> int:
    """Print a model's recalls under every protocol of a set."""
    from tabulate import tabulate

    from vpr.config.params import Params
    from vpr.descriptors.trained_model import Model
    from vpr.published.find_model import find_checkpoint
    from vpr.published.protocols import RECALLS, compare_protocols, protocols_of
    from vpr.retrieval.params import EvaluateParams
    from vpr.sources.base import Context
    from vpr.sources.catalogue import load_sources

    name, _, set_name = args.row.rpartition("/")
    if not name:
        raise UserError(f"{args.row!r} names no model; expected MODEL/SET, such as megaloc/nordland")
    context = Context()
    sources = load_sources(context.catalogue)
    protocols_of(set_name, sources)  # a wrong name is reported before weights are fetched
    model = Model(find_checkpoint(name))
    radius_m = Params.read().section(EvaluateParams).positive_radius_m
    rows = []
    for result in compare_protocols(set_name, model, name, sources, context, radius_m):
        row: dict[str, Any] = {"set": result.set, "queries": result.num_queries}
        for n, published in zip(RECALLS, result.published, strict=True):
            row[f"R@{n}"] = f"{100 * result.recalls[n]:.1f}"
            row[f"published R@{n}"] = "" if published is None else f"{published:.1f}"
        row["without positive"] = result.num_without
        row["R@1 without them"] = "" if result.recalls_without is None else f"{100 * result.recalls_without[1]:.1f}"
        rows.append(row | {"protocol": result.protocol})
    print(tabulate(rows, headers="keys", disable_numparse=True))
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Fetch photos of an area as a dataset."""
    import scipy  # noqa: F401  # a missing package is reported before anything is fetched

    from vpr.api.mapillary import Area, fetch_area, parse_box
    from vpr.data.timestamps import parse_since

    if not 0 < args.queries < 1:
        raise UserError(f"--queries is {args.queries:g}; expected a share between 0 and 1")
    try:
        since = parse_since(args.since) if args.since else ""
    except ValueError as error:
        raise UserError(f"--since: {error}") from None
    area = Area(parse_box(args.bbox), since, args.panoramas)
    table = fetch_area(area, args.out, args.queries, args.seed, args.radius_m)
    print(
        f"{table}: to evaluate on it, set dataset to custom, datasets.custom.images.source to {table}, and eval_sets "
        "to [street]; the images are CC BY-SA 4.0, and the table names their authors"
    )
    return 0
