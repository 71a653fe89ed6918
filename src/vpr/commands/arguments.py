"""Arguments that several commands share, and the groups that ``vpr --help`` shows."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpr.descriptors.trained_model import Model

MODEL, INDEX = Path("data/model.ckpt"), Path("data/index")
Command = Callable[[argparse.Namespace], int]


class Commands:
    """A group of commands.

    Args:
        parsers: The subparsers of ``vpr``.
        title: Title of the group in ``vpr --help``.
    """

    def __init__(self, parsers: Any, title: str) -> None:
        self.parsers, self.title = parsers, title
        self.summaries: dict[str, str] = {}

    def add(self, name: str, call: Command, summary: str, needs_project: bool = False) -> argparse.ArgumentParser:
        """Add a command, and return its parser.

        Args:
            name: Name of the command.
            call: Function of the parsed arguments that returns the exit code.
            summary: Summary for ``vpr --help``.
            needs_project: Whether the command only works in a project.
        """
        self.summaries[name] = summary
        one: argparse.ArgumentParser = self.parsers.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", formatter_class=_Help
        )
        one.set_defaults(call=call, needs_project=needs_project)
        one.add_argument(
            "--project", type=Path, help="folder of the project; by default the nearest one at or above this folder"
        )
        return one


class _Help(argparse.HelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", [], argparse.SUPPRESS) or not action.option_strings:
            return action.help
        return f"{action.help} (default: %(default)s)"


def add_model(one: argparse.ArgumentParser) -> None:
    """Add ``--model``; ``chosen_model`` loads it."""
    one.add_argument(
        "--model", type=model_name, help=f"path or name of the model (see `vpr models`); by default {MODEL}"
    )


def add_index(one: argparse.ArgumentParser) -> None:
    """Add ``--index``."""
    one.add_argument("--index", type=place, help=f"folder or address of the index; by default {INDEX}")


def add_database_photos(one: argparse.ArgumentParser) -> None:
    """Add ``--database-photos``."""
    one.add_argument("--database-photos", type=Path, help="folder of the index's photos, to show the nearest ones")


def chosen_model(args: argparse.Namespace) -> Model:
    """Load the model that ``--model`` names."""
    from vpr.descriptors.trained_model import Model

    return Model(checkpoint_of(args))


def checkpoint_of(args: argparse.Namespace) -> Path:
    """Return the checkpoint of the model that ``--model`` names, and fetch it first if necessary."""
    if isinstance(args.model, Path):
        return args.model
    from vpr.published.find_model import find_checkpoint

    return find_checkpoint(args.model)


def place(text: str) -> Path | str:
    """Parse a path, or an address such as ``s3://bucket/photos``."""
    return text if "://" in text else Path(text)


def model_name(text: str) -> Path | str:
    """Parse the path of a checkpoint, or a name that ``vpr.load`` accepts."""
    return text if ":/" in text or (not Path(text).suffix and "/" not in text) else Path(text)


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return a parser of numbers above 0."""

    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    read.__name__ = "number above 0"  # argparse shows it in its message
    return read
