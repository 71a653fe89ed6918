"""``vpr export`` and ``vpr push``: write a model in another format, or upload it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vpr.commands.arguments import Commands, add_model, checkpoint_of
from vpr.config.errors import UserError
from vpr.config.project import find_project, git_commit


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    one = commands.add("export", export, "write a model as ONNX or as a torch.export program")
    formats = one.add_mutually_exclusive_group(required=True)
    formats.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX file to write")
    formats.add_argument("--pt2", type=Path, metavar="FILE", help="torch.export file to write")
    add_model(one)

    one = commands.add("push", push, "upload a model to the Hugging Face Hub, with a model card")
    one.add_argument("name", nargs="?", metavar="OWNER/NAME", help="repository on the hub")
    one.add_argument("--folder", type=Path, help="folder to write the files into, instead of uploading them")
    add_model(one)
    one.add_argument("--recalls", type=Path, help="folder of <set>.json to show in the card, such as metrics/recalls")
    one.add_argument(
        "--license", help="licence for the card; by default mit for your own models, required for others' weights"
    )
    one.add_argument("--private", action="store_true", help="make the repository private")


def export(args: argparse.Namespace) -> int:
    """Write a model in another format."""
    from vpr.api.export import export_onnx, export_torch

    out, write = (args.onnx, export_onnx) if args.onnx is not None else (args.pt2, export_torch)
    facts = write(checkpoint_of(args), out)
    size = "×".join(map(str, facts["image_size"]))
    print(
        f"{out}: {facts['bytes'] / 10**6:.1f} MB, images {size} -> {facts['descriptor_dim']} numbers; "
        f"its descriptors differ from the model's by at most {facts['largest_difference']:.0e}"
    )
    return 0


def push(args: argparse.Namespace) -> int:
    """Upload a model to the Hugging Face Hub, or write the files into a folder."""
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from vpr.api import hub
    from vpr.model.checkpoint import load_checkpoint
    from vpr.published.hub_download import CARD, CONFIG, WEIGHTS

    if (args.name is None) == (args.folder is None):
        raise UserError("give either the name of a repository, as owner/name, or --folder, and not both")
    checkpoint = checkpoint_of(args)
    model, metadata = load_checkpoint(checkpoint)
    recalls = {}
    if args.recalls is not None:
        files = sorted(args.recalls.glob("*.json"))
        if not files:
            raise UserError(f"{args.recalls} has no recalls, which are files <set>.json; leave out --recalls")
        recalls = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    source = metadata.get("configuration", {}).get("dataset", {}).get("name", "")
    licence = args.license or ("" if source.startswith("https://") else "mit")
    if not licence:
        raise UserError(f"these are weights of {source}; pass the licence stated on that page with --license")
    commit = git_commit() if find_project(Path.cwd()) else "unknown"
    card = hub.model_card(args.name, metadata, asdict(model.spec), model.descriptor_dim, recalls, licence, commit)
    if args.folder is not None:
        hub.write_folder(checkpoint, args.folder, card)
        print(f"{args.folder}: {WEIGHTS}, {CONFIG} and {CARD}")
        return 0
    with TemporaryDirectory() as folder:
        hub.write_folder(checkpoint, Path(folder), card)
        print(hub.upload(Path(folder), args.name, args.private))
    return 0
