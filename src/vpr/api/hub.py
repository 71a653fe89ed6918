"""Upload models to the Hugging Face Hub: ``vpr push``. See ``vpr.published.hub_download`` for the files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from vpr.config.errors import UserError, one_line
from vpr.model.checkpoint import CHECKPOINT_FORMAT, load_checkpoint
from vpr.published.hub_download import CARD, CONFIG, PREFIX, WEIGHTS, require_hub
from vpr.published.table import PUBLISHED

CHOICES = ("dataset", "backbone", "agg", "loss", "miner")


def write_folder(checkpoint: Path, folder: Path, card: str) -> None:
    """Write the files that ``vpr push`` uploads.

    Args:
        checkpoint: Checkpoint of the model.
        folder: Folder to write into.
        card: The model card, in Markdown.

    Raises:
        UserError: if the checkpoint is not valid, the folder contains other files, or safetensors is not installed.
    """
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError:
        raise UserError("safetensors is not installed: pip install 'vpr[hub]'") from None
    model, metadata = load_checkpoint(checkpoint)
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if set(others) - {WEIGHTS, CONFIG, CARD, ".gitattributes"}:
        raise UserError(f"{folder} contains other files, such as {sorted(others)[0]}; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    config = {"vpr_format": CHECKPOINT_FORMAT, "spec": asdict(model.spec), "metadata": metadata}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def upload(folder: Path, name: str, private: bool) -> str:
    """Upload a folder as ``owner/name``, and return its address.

    Raises:
        UserError: if the upload fails, for example without a login.
    """
    api = require_hub().HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="vpr push")
    except Exception as error:  # the library raises many kinds
        raise UserError(
            f"{name}: not uploaded: {one_line(error)}; log in with `hf auth login`, or set HF_TOKEN to a token"
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
    """Return the card of a model: its components, its training settings, its recalls, and how to use it.

    Args:
        name: ``owner/name``; ``None`` for a folder.
        metadata, spec, descriptor_dim: Metadata and specification in the model's checkpoint, and the size of its
            descriptors.
        recalls: Content of ``metrics/recalls/<set>.json`` by set; empty if nothing was measured.
        licence: Identifier of the licence on the hub, such as ``mit``.
        commit: Commit of the project that the model is pushed from.
    """
    hub = require_hub()
    configuration = metadata.get("configuration", {})
    chosen = {key: configuration.get(key, {}).get("name", "") for key in CHOICES}
    source = next((each.source for each in PUBLISHED.values() if each.source == chosen["dataset"]), None)
    data = hub.ModelCardData(license=licence, library_name="vpr", tags=["visual-place-recognition", "image-retrieval"])
    card = hub.ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("model_card.md")),
        title=name or "A model of vpr",
        load_name=f"{PREFIX}{name}" if name else "this folder",
        chosen={key: value for key, value in chosen.items() if value},
        image_size="×".join(map(str, spec["image_size"])),
        descriptor_dim=descriptor_dim,
        commit=commit,
        recalls=[
            {
                "set": set_name,
                "num_queries": found["num_queries"],
                "num_database": found["num_database"],
                "positives": (found.get("protocol") or found["positives"])
                + (", centred" if found.get("centred") else ""),
                "values": [
                    f"{100 * found[f'recall_at_{n}']:.1f}" if f"recall_at_{n}" in found else "" for n in (1, 5, 10)
                ],
            }
            for set_name, found in recalls.items()
        ],
        source=source,
        settings=yaml.safe_dump(configuration, sort_keys=False, default_flow_style=None, width=100).strip(),
    )
    return str(card)
