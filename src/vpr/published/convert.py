"""Convert published weights to a checkpoint of this project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from vpr.config.errors import UserError
from vpr.model.backbones.weights import read_state_dict
from vpr.model.checkpoint import save_checkpoint
from vpr.model.vpr_model import VPRModel
from vpr.published.table import PUBLISHED, UNUSED


def convert(name: str, state: dict[str, Tensor]) -> VPRModel:
    """Return a published model in our form, in evaluation mode.

    Args:
        name: Key of ``PUBLISHED``.
        state: State dict of the published model.

    Raises:
        UserError: if names or shapes do not belong to that model; the message names them.
    """
    published = PUBLISHED[name]
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        for pattern, replacement in published.rules:
            if re.search(pattern, key):
                renamed[re.sub(pattern, replacement, key)] = value
                break
        else:
            unknown.append(key)
    model = VPRModel(published.spec)
    own = model.state_dict()
    unknown = [key for key in unknown if not UNUSED.search(key)]
    renamed = {key: value for key, value in renamed.items() if key in own or not UNUSED.search(key)}
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(renamed) - set(counters))
    more = sorted({*unknown, *(set(renamed) - set(own))})
    if missing or more:
        raise UserError(
            f"these are not weights of {name}: {len(missing)} tensors of the model are missing, starting with "
            f"{missing[:3]}, and {len(more)} do not belong to it, such as {more[:3]}"
        )
    wrong = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in renamed.items()
        if value.shape != own[key].shape
    ]
    if wrong:
        raise UserError(f"these are not weights of {name}: {wrong[0]}")
    model.load_state_dict({**counters, **renamed})
    return model.eval()


def convert_file(name: str, weights: Path, checkpoint: Path) -> None:
    """Write a checkpoint of published weights.

    Args:
        name: Key of ``PUBLISHED``.
        weights: File of the published weights.
        checkpoint: File to write.

    Raises:
        UserError: as ``convert``.
    """
    model = convert(name, read_state_dict(weights))
    spec = model.spec
    configuration: dict[str, Any] = {
        "dataset": {"name": PUBLISHED[name].source},
        "backbone": {"name": spec.backbone, **spec.backbone_options},
        "agg": {"name": spec.aggregator, **spec.aggregator_options},
        "loss": {"name": "published"},
        "miner": {"name": "published"},
        "train": {"image_size": list(spec.image_size)},
    }
    save_checkpoint(checkpoint, spec, model.state_dict(), {"configuration": configuration, "epoch": 0})
    print(f"{name}: {checkpoint}, descriptor {model.descriptor_dim}, images {spec.image_size}")
