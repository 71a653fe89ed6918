"""``vpr localize``: print where photos were taken."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpr.commands.arguments import Commands, add_database_photos, add_index, add_model, chosen_model
from vpr.config.errors import UserError, counted

if TYPE_CHECKING:
    from vpr.serving.index import Database


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    one = commands.add("localize", localize, "print where photos were taken")
    one.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="photos, folders of photos, or patterns such as '*.jpg'"
    )
    add_model(one)
    add_index(one)
    one.add_argument("--near", metavar="LAT,LON", help="search only near this position, in degrees; needs --within")
    one.add_argument("--within", type=float, metavar="METRES", help="largest distance from --near")
    one.add_argument("--since", metavar="TIME", help="search only photos taken since then: 2019, 201906 or 20190630")
    one.add_argument("--where", metavar="SQL", help="search only photos that meet a condition; for LanceDB")
    one.add_argument("--exact", action="store_true", help="compare with all photos, even if the index is approximate")
    one.add_argument("--num-predictions", type=int, default=5, help="number of nearest database photos to print")
    one.add_argument("--min-confidence", type=float, default=0.0, help="answer `unknown` below this probability")
    one.add_argument(
        "--format",
        choices=("text", "json", "geojson", "csv", "gpx"),
        default="text",
        help="json is what the server answers; geojson and gpx are for maps",
    )
    one.add_argument("--page", type=Path, help="HTML page to write as well, with photos, predictions and maps")
    one.add_argument("--pictures", type=Path, metavar="FOLDER", help="folder to draw answers in, as 1.png, 2.png...")
    add_database_photos(one)


def localize(args: argparse.Namespace) -> int:
    """Print where photos were taken; return 1 if a photo could not be read."""
    from vpr.serving.answer_picture import answer_picture
    from vpr.serving.answers import Answer
    from vpr.serving.answers_page import AnswersPage
    from vpr.serving.filters import parse_where
    from vpr.serving.formats import FORMATS
    from vpr.serving.lance_index import open_index
    from vpr.serving.localizer import AnswerOptions, Localizer
    from vpr.serving.photos import from_file, read_photo

    photos = photos_of(args.photos, args.here)
    where = parse_where(args.near, args.within, args.since, args.where)
    options = AnswerOptions(args.num_predictions, args.min_confidence, where=where)
    index = open_index(args.index, args.exact)
    localizer = Localizer(chosen_model(args), index)
    page = None
    if args.page is not None or args.pictures is not None:
        page = AnswersPage.of("Where these photos were taken", index, database_photos(index, args.database_photos))
    answers: list[Answer] = []
    with_pictures: list[dict[str, Any]] = []
    for name, path in photos:
        content = b""
        try:
            content = from_file(path)
        except UserError as error:
            answer = Answer(name, error=str(error))
        else:
            answer = localizer.locate_photo(name, content, options)
        answers.append(answer)
        if args.format == "text":
            print(answer.in_words(), flush=True)
        if page is not None and args.page is not None:
            with_pictures.append(page.with_pictures(answer, content))
        if page is not None and args.pictures is not None and not answer.error:
            args.pictures.mkdir(parents=True, exist_ok=True)
            picture = answer_picture(page, answer, read_photo(content, name))
            picture.save(args.pictures / f"{len(answers)}.png")
    if args.format != "text":
        print(FORMATS[args.format](answers))
    elif index.calibration is None:
        print(
            f"no confidence, because {args.index} has no calibration; `vpr index --calibration` reuses that of another "
            "index",
            file=sys.stderr,
        )
    if page is not None and args.page is not None:
        args.page.parent.mkdir(parents=True, exist_ok=True)
        args.page.write_text(page.render(with_pictures, live=False), encoding="utf-8")
        print(f"{args.page}: {counted(len(answers), 'photo')}", file=sys.stderr)
    return int(any(answer.error for answer in answers))


def photos_of(given: Iterable[str], here: Path) -> list[tuple[str, Path]]:
    """Return names and paths of the given photos, of those below folders, and of those that match patterns.

    Args:
        given: Files, folders or patterns.
        here: Folder that relative paths start from.

    Raises:
        UserError: if a folder or a pattern has no image.
    """
    from vpr.data.images import as_spelled, suffixes
    from vpr.sources.image_files import list_own_images

    found: list[tuple[str, Path]] = []
    for name in given:
        is_pattern = glob.has_magic(name) and not (here / name).exists()
        matches = sorted(glob.glob(name, root_dir=here, recursive=True)) if is_pattern else [name]  # noqa: PTH207
        images: list[tuple[str, Path]] = []
        for match in matches:
            path, match = as_spelled(here / match), os.fsencode(match).decode("utf-8", "replace")
            if path.is_dir():
                images += [(f"{match.rstrip('/')}/{image}", path / image) for image in list_own_images(path)]
            elif not is_pattern or path.suffix.lower() in suffixes():
                images.append((match, path))
        if not images:
            raise UserError(f"{name}: no images found; name photos, or a folder of JPEG, PNG or other images")
        found += images
    return found


def database_photos(index: Database, given: Path | None) -> Path | None:
    """Return the folder of a database's photos: the given folder, or that of an evaluation set of this project.

    The result is ``None`` if the folder is unknown. An index does not store it, because an index from a stranger could
    name any folder of this machine.

    Raises:
        UserError: if the given folder does not exist.
    """
    from vpr.descriptors.described_set import DescribedSet

    if given is not None:
        if not given.is_dir():
            raise UserError(f"{given}: no such folder")
        return given
    described = Path("data/descriptors") / index.facts.name.removeprefix(f"{index.facts.dataset} ")
    is_ours = index.facts.dataset and described.resolve().parent == Path("data/descriptors").resolve()
    return DescribedSet.load(described).database.manifest.folder if is_ours and described.is_dir() else None
