"""Starting weights of a backbone: random, ImageNet, or the user's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

_WRAPPERS = ("backbone.", "model.", "module.")


def torchvision_network(name: str, weights: str | None) -> Any:
    """A torchvision network with random, ImageNet or the user's weights."""
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    if weights == "imagenet":
        network.load_state_dict(_imagenet(name))
    elif weights is not None:
        load_file(network, name, weights)
    return network


def load_file(network: nn.Module, name: str, weights: str, unused: tuple[str, ...] = ()) -> None:
    """Load a state dict, also one inside a checkpoint, into a network.

    Args:
        unused: names in published files that the network has no use for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no state dict, or one of another network.
    """
    state = {key: value for key, value in read_state_dict(Path(weights)).items() if key not in unused}
    own = set(network.state_dict())
    for prefix in ("", *_WRAPPERS):
        stripped = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if own & set(stripped):
            state = stripped
            break
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"weights {weights!r} do not fit {name}: {error}") from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth``, of a Lightning checkpoint or of a checkpoint of ours, without running code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no state dict, or more than plain types.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights {str(path)!r}: no such file; choose null, imagenet or a state dict's path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no weights file fails in many ways
        raise ValueError(f"weights {str(path)!r} can't be read as a state dict: {str(error)[:200]}") from None
    if isinstance(content, dict):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"weights {str(path)!r} hold no state dict; expected names and tensors")
    return content


def _imagenet(name: str) -> dict[str, Tensor]:
    """torchvision's first ImageNet weights, through its download cache."""
    entry: Any = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]  # type: ignore[misc]
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"ImageNet weights of {name} can't be had: {error}; fetch {entry.url} on a machine with a network and put "
            f"the file {Path(entry.url).name} into {folder}, or set weights to null in params.yaml"
        ) from None
    return state
