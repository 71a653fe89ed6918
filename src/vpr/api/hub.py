"""Models on the Hugging Face Hub: ``vpr push`` puts one there, ``vpr.load("hf://owner/name")`` takes it.

A repository has the weights as ``model.safetensors``, what else the model needs as ``config.json``, and a model card.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from vpr.api.published import PUBLISHED
from vpr.config.errors import UserError
from vpr.model.checkpoint import CHECKPOINT_FORMAT, load_checkpoint, model_of, save_checkpoint

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
PREFIX = "hf://"


def from_hub(address: str, folder: Path) -> Path:
    """The checkpoint of a model on the hub, fetched where it is not there yet.

    Args:
        address: ``hf://owner/name``, and ``@revision`` where it is not the newest.
        folder: that keeps checkpoints.

    Raises:
        UserError: if it can't be fetched, or is not a model of this project.
    """
    snapshot = _hub()
    name, _, revision = address.removeprefix(PREFIX).partition("@")
    try:
        fetched = Path(snapshot(name, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # of many kinds
        raise UserError(f"{address}: can't be fetched: {' '.join(str(error).split())[:300]}") from None
    checkpoint = folder / name / f"{fetched.name}.ckpt"  # a snapshot's folder is named by its commit
    if not checkpoint.is_file():
        write_checkpoint(fetched, checkpoint)
    return checkpoint


def from_folder(folder: Path, kept: Path) -> Path:
    """The checkpoint of what ``vpr push --folder`` wrote.

    Args:
        kept: folder that keeps checkpoints.

    Raises:
        UserError: if it is not a model of this project.
    """
    content = b"".join((folder / name).read_bytes() for name in (CONFIG, WEIGHTS) if (folder / name).is_file())
    checkpoint = kept / "folders" / f"{hashlib.sha256(content).hexdigest()}.ckpt"
    if not checkpoint.is_file():
        write_checkpoint(folder, checkpoint)
    return checkpoint


def _hub() -> Any:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise UserError("the Hugging Face Hub needs a package more: pip install 'vpr[hub]'") from None
    return snapshot_download


def write_checkpoint(folder: Path, checkpoint: Path) -> None:
    """Turn a hub's folder into a checkpoint.

    Raises:
        UserError: if it holds no model of this project.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: no {' and no '.join(missing)}: it is not a model that `vpr push` wrote")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        content = {
            "format": config["vpr_format"],
            "spec": config["spec"],
            "metadata": config["metadata"],
            "state_dict": load_file(folder / WEIGHTS),
        }
    except (ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{folder}: not a model that `vpr push` wrote: {error}") from None
    model, metadata = model_of(folder / CONFIG, content)
    save_checkpoint(checkpoint, model.spec, model.state_dict(), metadata)


def write_folder(checkpoint: Path, folder: Path, card: str) -> None:
    """Write what ``vpr push`` uploads.

    Args:
        card: the model card, in Markdown.

    Raises:
        UserError: if the checkpoint is none, or the folder has other files.
    """
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError:
        raise UserError("safetensors is not installed: pip install 'vpr[hub]'") from None
    model, metadata = load_checkpoint(checkpoint)
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if set(others) - {WEIGHTS, CONFIG, CARD, ".gitattributes"}:
        raise UserError(f"{folder} has other files, such as {sorted(others)[0]}; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    config = {"vpr_format": CHECKPOINT_FORMAT, "spec": asdict(model.spec), "metadata": metadata}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def upload(folder: Path, name: str, private: bool) -> str:
    """Upload a folder as ``owner/name``; its address.

    Raises:
        UserError: if that fails, as without a login.
    """
    _hub()
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="vpr push")
    except Exception as error:  # of many kinds
        raise UserError(
            f"{name}: not uploaded: {' '.join(str(error).split())[:300]}; `hf auth login` stores a token, and HF_TOKEN "
            "gives one"
        ) from None
    return f"{PREFIX}{name}"


def model_card(
    name: str | None,
    metadata: dict[str, Any],
    spec: dict[str, Any],
    descriptor_dim: int,
    recalls: dict[str, dict[str, Any]],
    licence: str,
    commit: str,
) -> str:
    """The card of a model: what it is, what it was trained on and measured by, and how it is used.

    Args:
        name: ``owner/name``; ``None`` for a folder.
        metadata, spec, descriptor_dim: of its checkpoint.
        recalls: ``metrics/recalls/<set>.json`` by set; empty where nothing was measured.
        licence: identifier of the hub, such as ``mit``.
        commit: of the project that it was pushed from.
    """
    configuration = metadata.get("configuration", {})
    chosen = {
        key: configuration.get(key, {}).get("name", "") for key in ("dataset", "backbone", "agg", "loss", "miner")
    }
    lines = [
        "---",
        f"license: {licence}",
        "library_name: vpr",
        "tags: [visual-place-recognition, image-retrieval]",
        "---",
        "",
        f"# {name or 'A model of vpr'}",
        "",
        "A model that finds where a photo was taken, among photos whose place is known.",
        "",
        "```python",
        "import vpr",
        "",
        f'model = vpr.load("{PREFIX + name if name else "this folder"}")',
        'descriptors = model.describe(["one.jpg", "another.jpg"])',
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in chosen.items() if value),
        f"| image size | {'×'.join(map(str, spec['image_size']))} |",
        f"| descriptor | {descriptor_dim} |",
        f"| commit that it was pushed from | {commit} |",
        "",
    ]
    if recalls:
        lines += [
            "Recalls in percent, with the counts behind them:",
            "",
            "| set | queries | database | positives | R@1 | R@5 | R@10 |",
            "|---|---|---|---|---|---|---|",
        ]
        for set_name, found in recalls.items():
            values = [f"{100 * found[f'recall_at_{n}']:.1f}" if f"recall_at_{n}" in found else "" for n in (1, 5, 10)]
            how = (found.get("protocol") or found["positives"]) + (", centred" if found.get("centred") else "")
            lines.append(
                f"| {set_name} | {found['num_queries']} | {found['num_database']} | {how} | {' | '.join(values)} |"
            )
    else:
        lines.append("No recalls were measured with it.")
    source = next((each.source for each in PUBLISHED.values() if each.source == chosen["dataset"]), None)
    if source:
        lines += ["", f"The weights are those of {source}, in another form."]
    trained = yaml.safe_dump(configuration, sort_keys=False, default_flow_style=None, width=100)
    lines += ["", "It was trained with:", "", "```yaml", trained.strip(), "```"]
    return "\n".join(lines) + "\n"
