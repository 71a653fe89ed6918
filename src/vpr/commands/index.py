"""``vpr index`` and ``vpr remove``: build an index of photos, and remove photos from it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vpr.commands.arguments import INDEX, MODEL, Commands, add_model, chosen_model, place
from vpr.config.errors import UserError, counted


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    one = commands.add("index", build_index, "build an index from photos with positions in names, EXIF tags or a table")
    one.add_argument(
        "photos", type=Path, metavar="PHOTOS", help="folder of photos, or a table as datasets.custom takes it"
    )
    one.add_argument(
        "--out", type=place, required=True, help="folder to write; with --store lance also an address such as s3://..."
    )
    one.add_argument("--force", action="store_true", help="overwrite an existing index")
    one.add_argument(
        "--store",
        choices=("files", "lance"),
        default="files",
        help="files are read into memory; LanceDB stays on the disk, and photos can be added later",
    )
    one.add_argument(
        "--approximate", choices=("IVF_PQ", "IVF_RQ"), help="build an approximate index in LanceDB, and measure it"
    )
    add_model(one)
    one.add_argument("--calibration", type=Path, help="index of the same model whose confidence is reused")
    one.add_argument(
        "--radius-m",
        type=float,
        help="photos within this distance show the same place; by default evaluate.positive_radius_m of params.yaml",
    )

    one = commands.add("remove", remove, "remove photos from an index in LanceDB")
    one.add_argument("index", type=place, metavar="INDEX", help="folder or address of the index")
    one.add_argument("condition", metavar="SQL", help="condition on its columns, such as \"timestamp < '2019'\"")


def build_index(args: argparse.Namespace) -> int:
    """Build an index from a folder of geo-tagged photos, or from a table of them."""
    from vpr.config.params import PARAMS_FILE, Params
    from vpr.descriptors.params import ExtractParams
    from vpr.retrieval.params import EvaluateParams
    from vpr.serving.index import DEFAULT_RADIUS_M, Index
    from vpr.serving.lance_index import LanceIndex, add_photos

    if not args.photos.exists():
        raise UserError(f"{args.photos}: no such folder or table")
    _check_store(args)
    batch_size, engine, usual_radius_m = None, "local", DEFAULT_RADIUS_M
    if PARAMS_FILE.is_file():
        params = Params.read()
        extraction, usual_radius_m = params.section(ExtractParams), params.section(EvaluateParams).positive_radius_m
        batch_size, engine = extraction.batch_size, extraction.engine
    radius_m = usual_radius_m if args.radius_m is None and args.calibration is None else args.radius_m
    model = chosen_model(args)
    built: Index | LanceIndex
    if args.store == "lance":
        built, number = add_photos(args.photos, model, str(args.out), radius_m, args.calibration, batch_size, engine)
        print(f"{counted(number, 'photo')} added, {len(built):,} in total")
        if args.approximate is not None:
            made = built.build_approximate(args.approximate)
            print(f"{made.kind} finds {made.found:.1%} of the 10 nearest photos with {made.effort} partitions")
    else:
        built = Index.build(args.photos, model, radius_m, True, args.calibration, batch_size, None)
        built.save(args.out)
    if built.calibration is None and (INDEX / "index.json").is_file():
        print(
            f"no confidence: that of {INDEX} was learnt on other photos; use it anyway with --calibration {INDEX}",
            file=sys.stderr,
        )
    chosen = "" if args.model in (args.here / MODEL, MODEL) else f" --model {args.model}"
    print(
        f"{args.out}: {counted(len(built), 'photo')}; locate others with: vpr localize --index {args.out}{chosen} PHOTO"
    )
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove photos from an index in LanceDB."""
    from vpr.serving.lance_index import LanceIndex

    index = LanceIndex(str(args.index))
    print(f"{counted(index.remove(args.condition), 'photo')} removed, {len(index):,} left")
    return 0


def _check_store(args: argparse.Namespace) -> None:
    """Check that ``--out`` fits ``--store``, and ask before an index of files is overwritten.

    Raises:
        UserError: with what to do.
    """
    is_address, files = isinstance(args.out, str), Path(args.out) / "index.json"
    if args.store == "lance":
        if not is_address and files.exists():
            raise UserError(f"{args.out} is an index of files; name another folder for --out")
        return
    if args.approximate is not None or is_address:
        raise UserError(f"{'--out ' + args.out if is_address else '--approximate'} needs --store lance")
    if (args.out / "photos.lance").exists():
        raise UserError(f"{args.out} is an index in LanceDB; add --store lance, or name another folder for --out")
    if not files.exists() or args.force:
        return
    question = f"{args.out} is an index already"
    if not sys.stdin.isatty():
        raise UserError(f"{question}; name another folder for --out, or add --force to overwrite it")
    if input(f"{question}; overwrite it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError(f"{args.out} was not changed")
