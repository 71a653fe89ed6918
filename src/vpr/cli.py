"""The command ``vpr``: what one does with trained models. Training and evaluation are DVC's: ``dvc repro``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

MODEL, INDEX = Path("data/model.ckpt"), Path("data/index")


def localize(args: argparse.Namespace) -> int:
    """Print where photos were taken; 1 if one of them could not be read."""
    from vpr.extraction import pick_device
    from vpr.localization import Localizer, load_index, locate_photos

    index = load_index(args.index)
    localizer = Localizer(args.model, index, pick_device("auto"))
    failed = False
    answers = []
    for photo in args.photos:
        try:
            content = photo.read_bytes()
        except OSError as error:
            answers.append({"photo": str(photo), "error": f"{photo}: {error.strerror or error}"})
        else:
            answers += locate_photos(localizer, [(str(photo), content)], args.num_predictions, args.min_confidence)
        failed |= "error" in answers[-1]
        if not args.json:
            _tell(answers[-1])
    if args.json:
        print(json.dumps(answers, indent=2))
    elif index.calibration is None:
        print("no confidence: the index has no calibration", file=sys.stderr)
    return int(failed)


def _tell(answer: dict[str, Any]) -> None:
    print(answer["photo"])
    if "error" in answer:
        print(f"  error: {answer['error']}")
        return
    sure = "" if answer["confidence"] is None else f", within {answer['radius_m']:g} m with {answer['confidence']:.0%}"
    if not answer["known"]:
        print(f"  unknown{sure}")
    elif answer["lat"] is not None:
        utm = f"{answer['utm_east']:.2f} E {answer['utm_north']:.2f} N {answer['utm_zone']}"
        print(f"  {answer['lat']:.6f}, {answer['lon']:.6f}  ({utm}){sure}")
    elif answer["utm_east"] is not None:
        print(f"  {answer['utm_east']:.2f} E {answer['utm_north']:.2f} N{sure}")
    else:
        print(f"  place {answer['place_id'] or 'of the first prediction'}{sure}")
    for rank, prediction in enumerate(answer["predictions"], 1):
        print(f"  {rank}. similarity {prediction['similarity']:.3f}  {prediction['image']}")


def index(args: argparse.Namespace) -> int:
    """Build an index from a folder of geo-tagged photos."""
    from vpr.photo_folder import index_folder

    if not args.folder.is_dir():
        raise ValueError(f"{args.folder}: no such folder")
    calibrated = args.calibration
    if calibrated is None and (INDEX / "index.json").is_file() and args.model == MODEL:
        calibrated = INDEX
    built = index_folder(args.folder, args.model, args.out, calibrated)
    print(f"{args.out}: {len(built.images)} photos; locate others with: vpr localize --index {args.out} PHOTO")
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(prog="vpr", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, call: Any, told: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=told, description=told)
        sub.set_defaults(call=call)
        return sub

    one = command("localize", localize, "say where photos were taken")
    one.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    one.add_argument("--model", type=Path, default=MODEL)
    one.add_argument("--index", type=Path, default=INDEX, help="folder of the index stage or of `vpr index`")
    one.add_argument("--num-predictions", type=int, default=5, help="nearest database images to show")
    one.add_argument("--min-confidence", type=float, default=0.0, help="answer `unknown` below this probability")
    one.add_argument("--json", action="store_true", help="print JSON, the same as the served model answers")

    one = command("index", index, "build an index from a folder of photos with positions in names or EXIF GPS tags")
    one.add_argument("folder", type=Path, metavar="FOLDER")
    one.add_argument("--out", type=Path, required=True, help="folder to write")
    one.add_argument("--model", type=Path, default=MODEL)
    one.add_argument("--calibration", type=Path, help="index of the same model to take the confidence from")
    return top


def main() -> None:
    args = parser().parse_args()
    try:
        sys.exit(args.call(args))
    except (ValueError, OSError) as error:
        sys.exit(f"vpr {args.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
