"""Parse the command line, go to the project, and run a command."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import sys
from pathlib import Path

from vpr.commands import compare, hloc, index, locate, models, publish, serve, sweep
from vpr.commands.arguments import INDEX, MODEL, Commands, model_name, place
from vpr.config.errors import UserError, exit_code
from vpr.config.project import find_project

GROUPS = {
    "use a model": (locate, index, serve, hloc, publish),
    "compare runs": (compare, sweep),
    "get models and photos": (models,),
}
DEFAULTS = {"model": MODEL, "index": INDEX}
# Packages that a plain `pip install vpr` leaves out, and the extra that installs them.
EXTRA_OF = {
    "cv2": "match", "dvc": "pipeline", "fastapi": "serve", "gdown": "hub", "h5py": "match",
    "huggingface_hub": "hub", "jinja2": "serve", "kagglehub": "pipeline", "lancedb": "scale", "lightning": "train",
    "mlflow": "pipeline", "pytorch_metric_learning": "train", "ray": "scale", "scipy": "match", "submitit": "scale",
    "uvicorn": "serve",
}  # fmt: skip


class _GroupedHelp(argparse.RawDescriptionHelpFormatter):
    """Leaves out argparse's list of all commands; the epilog lists them by group."""

    def add_argument(self, action: argparse.Action) -> None:
        if not isinstance(action, argparse._SubParsersAction):
            super().add_argument(action)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="vpr",
        description="Work with trained models. To train and evaluate one, run `dvc repro`.",
        usage="vpr [-h] [--version] COMMAND ...",
        formatter_class=_GroupedHelp,
    )
    top.add_argument("--version", action="version", version=f"vpr {importlib.metadata.version('vpr')}")
    parsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="vpr")
    groups = []
    for title, modules in GROUPS.items():
        groups.append(commands := Commands(parsers, title))
        for module in modules:
            module.add_commands(commands)
    groups.append(commands := Commands(parsers, "set up the shell"))
    one = commands.add("completion", completion, "print a script that completes this command in a shell")
    one.add_argument("shell", choices=("bash", "zsh", "tcsh"), help='for bash: eval "$(vpr completion bash)"')
    top.epilog = "\n\n".join(
        f"{group.title}:\n" + "\n".join(f"  {name:<12}{summary}" for name, summary in group.summaries.items())
        for group in groups
    )
    return top


def completion(args: argparse.Namespace) -> int:
    """Print a completion script."""
    import shtab

    whole = parser()
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            if action.type in (Path, place, model_name):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, shell=args.shell))
    return 0


def enter_project(args: argparse.Namespace) -> None:
    """Go to the project that a command needs. Given paths are relative to the folder of the call.

    Raises:
        UserError: if there is no project, and the command needs one.
    """
    args.here = here = Path.cwd()
    root = find_project(args.project or here)
    if args.project is not None and root != args.project.resolve():
        raise UserError(f"--project {args.project} is not a project, because it lacks dvc.yaml, params.yaml or src/vpr")
    defaults = {name: path for name, path in DEFAULTS.items() if getattr(args, name, path) is None}
    if root is None:
        if args.needs_project or defaults:
            needed = " and ".join(f"--{name}" for name in defaults)
            raise UserError(
                f"there is no project at or above {here}: go to one, name it with --project"
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


def joined(words: list[str]) -> list[str]:
    """Return a command line with ``--near -23.5,-46.6`` as one word, which argparse would take for two options."""
    found: list[str] = []
    for word in words:
        is_value = re.match(r"-[\d.]", word) and found and re.fullmatch(r"--[a-z][a-z-]*", found[-1])
        found = [*found[:-1], f"{found[-1]}={word}"] if is_value else [*found, word]
    return found


def main() -> None:
    """Run the command that the command line names."""
    args = parser().parse_args(joined(sys.argv[1:]))

    def call() -> int:
        enter_project(args)
        try:
            done = int(args.call(args))
            sys.stdout.flush()
            return done
        except BrokenPipeError:  # for example, `vpr models | head` closes the pipe early
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except ModuleNotFoundError as error:
            extra = EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise UserError(
                f"this command needs {error.name}, which is not installed: pip install 'vpr[{extra}]'"
            ) from None

    sys.exit(exit_code(f"vpr {args.command}", call, ""))


if __name__ == "__main__":
    main()
