"""The command ``vpr``: work with trained models. To train and evaluate, run ``dvc repro``."""

from __future__ import annotations

import argparse
import glob
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpr.config.errors import UserError, exit_code
from vpr.config.project import find_project

if TYPE_CHECKING:
    from vpr.experiments.runs import Run
    from vpr.localization.index import Index
    from vpr.localization.lance_index import LanceIndex

MODEL, INDEX = Path("data/model.ckpt"), Path("data/index")


def localize(args: argparse.Namespace) -> int:
    """Print where photos were taken; 1 if one of them could not be read."""
    from vpr.localization.filters import parse_where
    from vpr.localization.formats import FORMATS
    from vpr.localization.lance_index import open_index
    from vpr.localization.localizer import Localizer, locate_photo
    from vpr.localization.photos import from_file
    from vpr.model.device import pick_device

    photos = _photos(args.photos, args.here)
    where = parse_where(args.near, args.within, args.since, args.where)
    index = open_index(args.index, args.exact)
    localizer = Localizer.open(args.model, index, pick_device("auto"))
    shown = None
    if args.page is not None or args.pictures is not None:
        from vpr.api.commands import photos_of
        from vpr.localization.answers_page import Shown

        shown = Shown.of("Where these photos were taken", index, photos_of(index, args.database_photos))
    failed = False
    answers: list[dict[str, Any]] = []
    pictured: list[dict[str, Any]] = []
    for name, path in photos:
        try:
            content = from_file(path)
        except UserError as error:
            content = b""
            answers.append({"photo": name, "error": str(error)})
        else:
            answers.append(
                locate_photo(localizer, name, content, args.num_predictions, args.min_confidence, where=where)
            )
        if shown is not None and args.page is not None:
            pictured.append(shown.answer(answers[-1], content))
        if shown is not None and args.pictures is not None and "error" not in answers[-1]:
            from vpr.localization.answer_picture import answer_picture
            from vpr.localization.photos import read_photo

            args.pictures.mkdir(parents=True, exist_ok=True)
            drawn = answer_picture(shown, answers[-1], read_photo(content, name))
            drawn.save(args.pictures / f"{len(answers)}.png")
        failed |= "error" in answers[-1]
        if args.format == "text":
            _print_answer(answers[-1])
    if args.format != "text":
        print(FORMATS[args.format](answers))
    elif index.calibration is None:
        print(
            f"no confidence: none was learnt for {args.index}; `vpr index --calibration` takes over another index's",
            file=sys.stderr,
        )
    if shown is not None and args.page is not None:
        args.page.parent.mkdir(parents=True, exist_ok=True)
        args.page.write_text(shown.render(pictured, live=False), encoding="utf-8")
        print(f"{args.page}: {len(pictured)} {'photo' if len(pictured) == 1 else 'photos'}", file=sys.stderr)
    return int(failed)


def _photos(given: Iterable[str], here: Path) -> list[tuple[str, Path]]:
    """Names and paths: of files as they are, of the images below each folder, and of what fits a pattern.

    Args:
        here: where relative paths start.

    Raises:
        UserError: if a folder or a pattern has no image.
    """
    from vpr.data.files import list_images
    from vpr.data.images import SUFFIXES

    found: list[tuple[str, Path]] = []
    for name in given:
        is_pattern = glob.has_magic(name) and not (here / name).exists()
        matches = sorted(glob.glob(name, root_dir=here, recursive=True)) if is_pattern else [name]  # noqa: PTH207
        images: list[tuple[str, Path]] = []
        for match in matches:
            path = here / match
            if path.is_dir():
                images += [(f"{match.rstrip('/')}/{image}", path / image) for image in list_images(path)]
            elif not is_pattern or path.suffix.lower() in SUFFIXES:
                images.append((match, path))
        if not images:
            raise UserError(f"{name}: no images there; name photos, or a folder of JPEG, PNG or other images")
        found += images
    return found


def _print_answer(answer: dict[str, Any]) -> None:
    print(answer["photo"])
    if "error" in answer:
        print(f"  error: {answer['error']}")
        return
    confidence = (
        ""
        if answer["confidence"] is None
        else f", {answer['confidence']:.0%} likely to be {answer['confidence_means']}"
    )
    if not answer["known"]:
        print(f"  unknown{confidence}")
    elif answer["lat"] is not None:
        utm = f"{answer['utm_east']:.2f} E {answer['utm_north']:.2f} N {answer['utm_zone']}"
        print(f"  {answer['lat']:.6f}, {answer['lon']:.6f}  ({utm}){confidence}")
    elif answer["utm_east"] is not None:
        print(f"  {answer['utm_east']:.2f} E {answer['utm_north']:.2f} N{confidence}")
    else:
        print(f"  place {answer['place_id'] or 'of the first prediction'}{confidence}")
    if answer["confidence"] is not None:
        print(f"  confidence: {answer['confidence_note']}")
    for rank, prediction in enumerate(answer["predictions"], 1):
        print(f"  {rank}. similarity {prediction['similarity']:.3f}  {prediction['image']}")


def index(args: argparse.Namespace) -> int:
    """Build an index from a folder of geo-tagged photos, or from a table of them."""
    from vpr.config.params import PARAMS_FILE, load
    from vpr.localization.photo_folder import DEFAULT_RADIUS_M, add_photos, index_photos
    from vpr.model.params import ExtractParams
    from vpr.retrieval.params import EvaluateParams
    from vpr.sources.custom import photos_with_positions

    if not args.photos.exists():
        raise UserError(f"{args.photos}: no such folder or table")
    _check_store(args)
    has_params = PARAMS_FILE.is_file()
    batch_size, engine = (None, "local")
    if has_params:
        extraction = load(ExtractParams)
        batch_size, engine = extraction.batch_size, extraction.engine
    radius_m = args.radius_m
    if radius_m is None and args.calibration is None:
        radius_m = load(EvaluateParams).positive_radius_m if has_params else DEFAULT_RADIUS_M
    is_table = args.photos.is_file()
    listed, folder = (photos_with_positions(args.photos), args.photos.parent) if is_table else (None, args.photos)
    given = (args.calibration, radius_m, batch_size, listed)
    built: Index | LanceIndex
    if args.store == "lance":
        built, number = add_photos(folder, args.model, str(args.out), *given, engine)
        print(f"{number:,} photos added, {len(built):,} in all")
        if args.approximate is not None:
            made = built.build_approximate(args.approximate)
            print(f"{made.kind} finds {made.found:.1%} of the 10 nearest photos, looking at {made.effort} partitions")
    else:
        built = index_photos(folder, args.model, Path(args.out), *given)
    if built.calibration is None and (INDEX / "index.json").is_file():
        print(
            f"no confidence: what {INDEX} learnt need not hold for these photos; --calibration {INDEX} takes it over "
            "all the same",
            file=sys.stderr,
        )
    model = "" if args.model == args.here / MODEL or args.model == MODEL else f" --model {args.model}"
    print(f"{args.out}: {len(built):,} photos; locate others with: vpr localize --index {args.out}{model} PHOTO")
    return 0


def describe(args: argparse.Namespace) -> int:
    """Write the descriptors of a folder's images, as hloc reads them."""
    import h5py  # noqa: F401  # that it is missing is said before anything is described

    from vpr.localization.exchange import describe_folder, write_descriptors

    names, descriptors = describe_folder(args.photos, args.model, None)
    write_descriptors(args.h5, names, descriptors)
    print(f"{args.h5}: {len(names):,} descriptors of {descriptors.shape[1]}")
    return 0


def pairs(args: argparse.Namespace) -> int:
    """Write each image with its nearest ones, as hloc and COLMAP match them."""
    from vpr.localization.exchange import describe_folder, nearest_pairs, write_pairs

    queries = describe_folder(args.photos, args.model, None)
    database = describe_folder(args.database, args.model, None) if args.database else None
    found = nearest_pairs(queries, database, args.top)
    write_pairs(args.out, found)
    print(f"{args.out}: {len(found):,} pairs of {len(queries[0]):,} images")
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove photos from an index in LanceDB."""
    from vpr.localization.lance_index import LanceIndex

    index = LanceIndex(str(args.index))
    print(f"{index.remove(args.condition):,} photos removed, {len(index):,} are left")
    return 0


def _check_store(args: argparse.Namespace) -> None:
    """Refuse what the other kind of index is for, and ask before one of files is overwritten.

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
    if files.exists() and not args.force:
        _ask_to_overwrite(args.out)


def _ask_to_overwrite(folder: Path) -> None:
    """Ask on a terminal, and refuse elsewhere.

    Raises:
        UserError: if the index is to stay.
    """
    question = f"{folder} is an index already"
    if not sys.stdin.isatty():
        raise UserError(f"{question}; name another folder for --out, or add --force to overwrite it")
    if input(f"{question}; overwrite it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError(f"{folder} stays as it is")


def serve(args: argparse.Namespace) -> int:
    """Answer photos over HTTP until interrupted."""
    from vpr.localization.lance_index import open_index
    from vpr.localization.localizer import Localizer
    from vpr.localization.server import Limits, serve
    from vpr.model.device import pick_device

    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; expected 0 to 65535")
    limits = Limits(args.max_body_mb, args.max_photos, args.max_megapixels, args.max_seconds, args.max_requests)
    localizer = Localizer.open(args.model, open_index(args.index), pick_device("auto"))
    print(f"answering POST http://{args.host}:{args.port}/invocations; Ctrl-C ends it", flush=True)
    serve(localizer, args.host, args.port, limits)
    return 0


def _runs() -> list[Run]:
    """The runs of the store, which is named on stderr."""
    from vpr.experiments.runs import finished_runs
    from vpr.experiments.store import tracking_uri, without_passwords

    print(f"runs of {without_passwords(tracking_uri())}", file=sys.stderr)
    return finished_runs()


def compare(args: argparse.Namespace) -> int:
    """Print runs side by side; two of them also query by query."""
    from vpr.experiments import comparison, paper
    from vpr.experiments.runs import find_run

    runs = _runs()
    if args.runs:
        runs = list({run.id: run for run in (find_run(wanted, runs) for wanted in args.runs)}.values())
    settings = paper.paper_settings() if args.paper else ()
    print(comparison.formatted(comparison.compare(runs, args.sort, settings), args.format))
    if args.runs and len(runs) == 2:
        _compare_two(runs[0], runs[1], args)
    elif args.page:
        raise UserError("--page needs exactly two runs")
    return 0


def _compare_two(first: Run, second: Run, args: argparse.Namespace) -> None:
    from vpr.experiments.paired_test import in_words, paired_test
    from vpr.experiments.runs import distinct_names, run_predictions
    from vpr.retrieval.predictions import first_is_positive

    output = sys.stdout if args.format == "table" else sys.stderr  # a table to parse stays alone
    sets = [name for name in first.sets() if name in second.sets()]
    if not sets:
        raise UserError(f"{first.name} and {second.name} have no evaluation set in common")
    print(file=output)
    for name in sets:
        one, two = (first_is_positive(run_predictions(run, name)) for run in (first, second))
        print(in_words(name, *distinct_names(first, second), paired_test(one, two)), file=output)
    if args.page:
        from vpr.config.params import load
        from vpr.experiments.side_by_side import write_side_by_side
        from vpr.retrieval.params import EvaluateParams

        write_side_by_side(first, second, sets, load(EvaluateParams).positive_radius_m, args.page)
        print(f"\nquery by query: {args.page}", file=output)


def env(args: argparse.Namespace) -> int:
    """Print what differs between a run's environment and this one; 1 if anything does."""
    from tabulate import tabulate

    from vpr.experiments.environment import environment_differences
    from vpr.experiments.runs import find_run

    run = find_run(args.run, _runs())
    rows = environment_differences(run)
    if rows:
        print(tabulate(rows, headers=["", run.name, "now"], disable_numparse=True))
    else:
        print(f"{run.name}: the same commit, machine and versions as now")
    return int(bool(rows))


def promote(args: argparse.Namespace) -> int:
    """Register a run's model if it beats the holder of the alias on the validation set by more than chance."""
    from vpr.experiments import registry
    from vpr.experiments.paired_test import in_words, paired_test
    from vpr.experiments.runs import distinct_names, find_run, run_predictions
    from vpr.retrieval.predictions import first_is_positive

    run = find_run(args.run, _runs())
    name = args.set or run.params.get("train.val_set", "")
    if name not in run.sets():
        raise UserError(f"{run.name} has no recalls on {name!r}; choose --set from {', '.join(run.sets())}")

    def beats(holder: Run) -> str:
        one, two = (first_is_positive(run_predictions(each, name)) for each in (holder, run))
        test = paired_test(one, two)
        message = in_words(name, *distinct_names(holder, run), test, args.significance)
        if test.difference <= 0 or test.p_value >= args.significance:
            raise UserError(f"{holder.name} keeps {args.model_name}@{args.alias}: {message}")
        return message

    print(registry.promote(run, args.model_name, args.alias, beats))
    return 0


def sweep(args: argparse.Namespace) -> int:
    """Run a grid of experiments, or the paper's, through DVC's queue or as jobs."""
    from tabulate import tabulate

    from vpr.experiments import dvc_queue, launcher, paper
    from vpr.experiments import sweep as sweeping

    sweeping.check_settings(args.settings)
    points = sweeping.grid(args.settings)
    if args.paper:
        reported = paper.read_paper()
        points = [[*paper.paper_overrides(row), *point] for row in reported for point in points]
    elif not args.settings:
        raise UserError("name what to vary, such as agg=avg,gem loss=NTXentLoss,MultiSimilarityLoss, or use --paper")
    baseline = sweeping.git("rev-parse", "HEAD")
    wanted = sweeping.share_of_the_work(sweeping.experiments(points, baseline), args.part)
    if args.dry_run:
        print(tabulate([[e.name, " ".join(e.overrides)] for e in wanted], headers=["name", "changes"]))
        return 0
    changed = sweeping.git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!metrics")
    if changed:
        raise UserError(f"the queue runs committed files only; commit or stash {changed.split()[1::2]}")
    jobs = args.jobs or (None if args.launcher == "slurm" else 1)

    def run(todo: Sequence[sweeping.Experiment]) -> Iterator[tuple[str, str]]:
        if args.launcher:
            return launcher.run_as_jobs(todo, args.launcher, jobs, args.job)
        return dvc_queue.run_in_queue(todo, jobs or 1)

    outcome = sweeping.run_sweep(wanted, run, args.share)
    failed = {name: why for name, why in outcome.items() if why != "done"}
    print(f"\n{len(outcome) - len(failed)} done, {len(failed)} failed")
    for name, why in failed.items():
        print(f"  {name}: {why}")
    print("vpr experiments shows all of them, vpr compare those in MLflow")
    return int(bool(failed))


def experiments(args: argparse.Namespace) -> int:
    """Print DVC's experiments: the components and the recalls."""
    from vpr.experiments.sweep import experiment_table

    print(experiment_table())
    return 0


def import_published(args: argparse.Namespace) -> int:
    """Turn published weights into a checkpoint of this project."""
    from vpr.api.published import convert_file

    convert_file(args.name, args.weights, args.out or Path("data/published") / f"{args.name}.ckpt")
    return 0


def reproduce(args: argparse.Namespace) -> int:
    """Evaluate a published model by the protocol of a set, and print ours beside the published recalls."""
    import subprocess

    from vpr.experiments import reproduction
    from vpr.sources.catalogue import load_sources

    rows = reproduction.read_published()
    if args.row is None:
        for row in rows:
            print(row.name)
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


def of_api(name: str) -> Callable[[argparse.Namespace], int]:
    """A command of ``vpr.api.commands``, imported when it is called."""

    def call(args: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module("vpr.api.commands"), name)(args))

    return call


def completion(args: argparse.Namespace) -> int:
    """Print what a shell reads to complete this command."""
    import shtab

    whole = parser()
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            if action.type in (Path, _place, _model):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, shell=args.shell))
    return 0


def _place(text: str) -> Path | str:
    """A path, or an address such as ``s3://bucket/photos``."""
    return text if "://" in text else Path(text)


def _model(text: str) -> Path | str:
    """A checkpoint's path, or a name that ``vpr.load`` takes."""
    return text if ":/" in text or (not Path(text).suffix and "/" not in text) else Path(text)


class _Help(argparse.HelpFormatter):
    """Shows defaults, apart from those that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default in (None, False, argparse.SUPPRESS) or not action.option_strings
        return action.help if says_nothing else f"{action.help} (default: %(default)s)"


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A number above 0 on the command line."""

    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    read.__name__ = "number above 0"
    return read


def _add_limits(one: argparse.ArgumentParser) -> None:
    """What a server lets a request ask for."""
    one.add_argument("--max-body-mb", type=_positive(float), default=32, help="size of a request, in 10^6 bytes")
    one.add_argument("--max-photos", type=_positive(int), default=32, help="photos in a request")
    one.add_argument("--max-megapixels", type=_positive(float), default=50, help="pixels of a photo, in millions")
    one.add_argument("--max-seconds", type=_positive(float), default=30, help="time for a request, in seconds")
    one.add_argument("--max-requests", type=_positive(int), default=64, help="requests at a time")


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(prog="vpr", description=__doc__)
    top.add_argument("--version", action="version", version=f"vpr {importlib.metadata.version('vpr')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, call: Any, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary, formatter_class=_Help)
        sub.set_defaults(call=call)
        sub.add_argument(
            "--project", type=Path, help="folder of the project; by default the nearest one at or above this folder"
        )
        return sub

    one = command("localize", localize, "say where photos were taken")
    one.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="photos, folders of photos, or patterns such as '*.jpg'"
    )
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )
    one.add_argument("--index", type=_place, help=f"folder or address of the index; by default the project's {INDEX}")
    one.add_argument("--near", metavar="LAT,LON", help="only photos of the database near this position, in degrees")
    one.add_argument("--within", type=float, metavar="METRES", help="how near")
    one.add_argument("--since", metavar="TIME", help="only photos from then on: 2019, 201906, 20190630")
    one.add_argument("--where", metavar="SQL", help="only photos that fit a condition; for an index in LanceDB")
    one.add_argument("--exact", action="store_true", help="compare all photos, also with an approximate index")
    one.add_argument("--num-predictions", type=int, default=5, help="nearest database images to show")
    one.add_argument("--min-confidence", type=float, default=0.0, help="answer `unknown` below this probability")
    one.add_argument(
        "--format",
        choices=("text", "json", "geojson", "csv", "gpx"),
        default="text",
        help="json is what the served model answers; geojson and gpx are for maps",
    )
    one.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    one.add_argument("--page", type=Path, help="write an HTML page with photos, predictions and maps as well")
    one.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw each answer as a picture, 1.png and so on")
    one.add_argument("--database-photos", type=Path, help="folder of the index's photos, for --page and --pictures")

    one = command("describe", describe, "write the descriptors of a folder's images, for hloc")
    one.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of images")
    one.add_argument("--h5", type=Path, required=True, help="HDF5 file to write")
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )

    one = command("pairs", pairs, "write pairs of images to match, for hloc and COLMAP")
    one.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of images")
    one.add_argument("--database", type=Path, help="folder to look in; by default the images among themselves")
    one.add_argument("--top", type=_positive(int), default=50, help="nearest images of each")
    one.add_argument("--out", type=Path, required=True, help="text file to write")
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )

    one = command("index", index, "build an index from photos with positions in names, EXIF GPS tags or a table")
    one.add_argument(
        "photos", type=Path, metavar="PHOTOS", help="folder of photos, or a table of them as datasets.custom takes it"
    )
    one.add_argument(
        "--out", type=_place, required=True, help="folder to write; with --store lance also s3://... and the like"
    )
    one.add_argument("--force", action="store_true", help="overwrite an index that is there")
    one.add_argument(
        "--store",
        choices=["files", "lance"],
        default="files",
        help="files, read into memory; or LanceDB, which stays on the disk and takes more photos later",
    )
    one.add_argument(
        "--approximate", choices=["IVF_PQ", "IVF_RQ"], help="build an approximate index in LanceDB, measured"
    )
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )
    one.add_argument("--calibration", type=Path, help="index of the same model to take the confidence from")
    one.add_argument(
        "--radius-m",
        type=float,
        help="photos within it show the same place; by default evaluate.positive_radius_m of params.yaml",
    )

    one = command("remove", remove, "remove photos from an index in LanceDB")
    one.add_argument("index", type=_place, metavar="INDEX", help="folder or address of the index")
    one.add_argument("condition", metavar="SQL", help="on its columns, such as \"timestamp < '2019'\"")

    one = command("serve", serve, "answer photos over HTTP, with limits on what a request may ask for")
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )
    one.add_argument("--index", type=_place, help=f"folder or address of the index; by default the project's {INDEX}")
    one.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines ask")
    one.add_argument("--port", type=int, default=5001, help="port to listen on; 0 for any that is free")
    _add_limits(one)

    one = command("demo", of_api("demo"), "serve a page to drop photos on")
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )
    one.add_argument("--index", type=_place, help=f"folder or address of the index; by default the project's {INDEX}")
    one.add_argument("--database-photos", type=Path, help="folder of the index's photos, to show the nearest ones")
    one.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines ask")
    one.add_argument("--port", type=int, default=5002, help="port to listen on")
    _add_limits(one)
    one.add_argument("--per-minute", type=int, default=60, help="photos of one address; 0 for any number")

    one = command("models", of_api("models"), "list models by name, fetch one, or say what is known of one")
    one.add_argument("action", nargs="?", choices=("list", "pull", "info"), default="list", help="what to do")
    one.add_argument("name", nargs="?", metavar="NAME", help="of the model")
    one.add_argument("--mirror", metavar="URL", help="another address of the same weights, such as file://...")

    one = command("export", of_api("export"), "write a model in another format")
    formats = one.add_mutually_exclusive_group(required=True)
    formats.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX file to write")
    formats.add_argument("--pt2", type=Path, metavar="FILE", help="file of torch.export to write")
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )

    one = command("push", of_api("push"), "put a model on the Hugging Face Hub, with a model card")
    one.add_argument("name", nargs="?", metavar="OWNER/NAME", help="repository on the hub")
    one.add_argument("--folder", type=Path, help="write what would be uploaded into a folder instead")
    one.add_argument(
        "--model", type=_model, help=f"checkpoint, or name, of the model; by default the project's {MODEL}"
    )
    one.add_argument("--recalls", type=Path, help="folder of <set>.json for the card, such as metrics/recalls")
    one.add_argument(
        "--license", help="identifier for the card; by default mit for your own, and none for others' weights"
    )
    one.add_argument("--private", action="store_true", help="make the repository private")

    one = command("fetch", of_api("fetch"), "fetch photos of an area as a dataset")
    one.add_argument("source", choices=("mapillary",), help="where from; wants MAPILLARY_TOKEN")
    one.add_argument("--bbox", required=True, metavar="W,S,E,N", help="west, south, east and north, in degrees")
    one.add_argument("--out", type=Path, required=True, help="folder to write; one that is there is continued")
    one.add_argument("--since", default="", metavar="DATE", help="no photos from before, such as 2019 or 2019-06-30")
    one.add_argument("--panoramas", action="store_true", help="keep panoramas")
    one.add_argument("--queries", type=float, default=0.2, help="share of the photos that are queries, by drives")
    one.add_argument("--radius-m", type=_positive(float), default=25.0, help="a database photo within it is a positive")
    one.add_argument("--seed", type=int, default=1, help="of the choice of drives")

    one = command("compare", compare, "show runs of MLflow side by side; two of them also query by query")
    one.add_argument("runs", nargs="*", metavar="RUN", help="name, or id or its beginning; all runs if none is given")
    one.add_argument("--sort", help="metric, such as test/recall_at_1; the best first")
    one.add_argument("--format", choices=["table", "markdown", "csv"], default="table", help="of what is printed")
    one.add_argument(
        "--paper", action="store_true", help="show the paper's recalls beside, and say where settings differ"
    )
    one.add_argument("--page", type=Path, help="write an HTML page with two runs side by side, query by query")

    one = command("env", env, "show what differs between the environment of a run and this one")
    one.add_argument("run", metavar="RUN", help="name, or id or its beginning")

    one = command("promote", promote, "register a model that beats the present one by more than chance")
    one.add_argument("run", metavar="RUN", help="name, or id or its beginning")
    one.add_argument("--model-name", default="vpr", help="registered model")
    one.add_argument("--alias", default="champion", help="that the best model has")
    one.add_argument("--set", help="evaluation set to compare on; by default the run's validation set")
    one.add_argument("--significance", type=float, default=0.05, help="largest p-value that counts as more than chance")

    one = command("sweep", sweep, "queue a grid of experiments, continue where it stopped, say what failed")
    one.add_argument("settings", nargs="*", metavar="KEY=VALUE,VALUE", help="keys of params.yaml and values to try")
    one.add_argument("--paper", action="store_true", help="the runs of sweeps/paper.csv")
    one.add_argument("--jobs", type=_positive(int), help="experiments at a time; by default 1, on a cluster all")
    one.add_argument("--launcher", choices=("slurm", "local"), help="jobs of submitit, not DVC's queue")
    one.add_argument(
        "--job", action="append", default=[], metavar="KEY=VALUE", help="for the launcher: timeout_min=240"
    )
    one.add_argument("--share", default="", metavar="REMOTE", help="git remote through which experiments meet")
    one.add_argument("--part", default="1/1", metavar="I/N", help="what the I-th of N machines takes")
    one.add_argument("--dry-run", action="store_true", help="print the experiments and stop")

    one = command("import", import_published, "turn published weights into a checkpoint of this project")
    one.add_argument("name", metavar="NAME", help="of the model, as in docs/published-weights.md")
    one.add_argument("weights", type=Path, metavar="FILE", help="the published file")
    one.add_argument("--out", type=Path, help="checkpoint to write; by default data/published/NAME.ckpt")

    one = command("reproduce", reproduce, "evaluate a published model, and print ours beside the published recalls")
    one.add_argument("row", nargs="?", metavar="MODEL/SET", help="of docs/reproduction.md; without it all are listed")

    one = command("completion", completion, "print what a shell reads to complete this command")
    one.add_argument("shell", choices=("bash", "zsh", "tcsh"), help='for bash: eval "$(vpr completion bash)"')

    command("experiments", experiments, "show DVC's experiments: the components and the recalls, not every key")
    return top


DEFAULTS = {"model": MODEL, "index": INDEX}
# Packages that a plain `pip install vpr` leaves out, and what brings them.
EXTRA_OF = {
    "cv2": "match", "dvc": "pipeline", "fastapi": "demo", "filelock": "hub", "gdown": "hub", "h5py": "match",
    "huggingface_hub": "hub", "kagglehub": "pipeline", "lancedb": "scale", "lightning": "train", "mlflow": "pipeline",
    "pytorch_metric_learning": "train", "ray": "scale", "scipy": "pipeline", "submitit": "scale", "uvicorn": "demo",
}  # fmt: skip
NEEDS_PROJECT = ("compare", "env", "promote", "reproduce", "sweep", "experiments")


def enter_project(args: argparse.Namespace) -> None:
    """Go to the project that a command is for. Paths that were given start where the command was called.

    Raises:
        UserError: if there is none, and the command needs one.
    """
    args.here = here = Path.cwd()
    root = find_project(args.project or here)
    if args.project is not None and root != args.project.resolve():
        raise UserError(f"--project {args.project}: no project: dvc.yaml, params.yaml and src/vpr are not there")
    defaults = {name: path for name, path in DEFAULTS.items() if getattr(args, name, path) is None}
    if root is None:
        if args.command in NEEDS_PROJECT or defaults:
            needed = " and ".join(f"--{name}" for name in defaults)
            raise UserError(
                f"no project at or above {here}: go to one, name it with --project"
                + (f", or name {needed}" if defaults else "")
            )
        return
    if root != here:
        for name, value in vars(args).items():
            if isinstance(value, Path) and name not in ("project", "here"):
                setattr(args, name, here / value)
        os.chdir(root)
        print(f"project {root}", file=sys.stderr)
    for name, path in defaults.items():
        setattr(args, name, path)


def main() -> None:
    args = parser().parse_args()

    def call() -> int:
        enter_project(args)
        try:
            if isinstance(getattr(args, "model", None), str):
                from vpr.api.names import find_checkpoint

                args.model = find_checkpoint(args.model)
            done = int(args.call(args))
            sys.stdout.flush()
            return done
        except BrokenPipeError:  # as of `vpr models | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except ModuleNotFoundError as error:
            extra = EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise UserError(f"this needs {error.name}, which is not installed: pip install 'vpr[{extra}]'") from None

    sys.exit(exit_code(f"vpr {args.command}", call, ""))


if __name__ == "__main__":
    main()
