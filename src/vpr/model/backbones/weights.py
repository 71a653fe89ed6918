"""Starting weights of a backbone: random weights, ImageNet weights, or a file of the user."""

from __future__ import annotations

import importlib
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard
from urllib.error import URLError

import torch
from torch import Tensor, nn

from vpr.config.errors import UserError
from vpr.data.texts import text_that_begins
from vpr.model.backbones.base import Backbone


def import_torchvision() -> Any:
    """Import torchvision without torch's compiler, which it imports for one function of its ops.

    The compiler alone takes 1.1 to 1.8 s of CPU time to import, in every stage and command that builds a model. A lazy
    import does not help, because ``torchvision.ops.roi_align`` imports the function by name; so stand-in modules
    provide that function while torchvision is imported, and are removed afterwards.
    """
    compiler, names = "torch._dynamo", ("torch._dynamo", "torch._dynamo.utils")
    if "torchvision" not in sys.modules and compiler not in sys.modules:
        stand_ins = {name: types.ModuleType(name) for name in names}
        stand_ins[compiler].__path__ = []
        stand_ins[f"{compiler}.utils"].is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        sys.modules.update(stand_ins)
        try:
            return importlib.import_module("torchvision")
        except ImportError:  # another version of torchvision needs more of the compiler
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
        finally:
            for name in names:
                del sys.modules[name]
            vars(torch).pop("_dynamo", None)
    return importlib.import_module("torchvision")


def _is_compile_supported(device_type: str) -> bool:
    """Return the compiler's own answer, importing it when it is asked for."""
    supported: bool = importlib.import_module("torch._dynamo.utils").is_compile_supported(device_type)
    return supported


def torchvision_network(name: str, weights: str | None) -> Any:
    """Build a torchvision network with random weights or, if ``weights`` is ``"imagenet"``, with ImageNet weights."""
    torchvision = import_torchvision()
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    if weights == "imagenet":
        network.load_state_dict(_imagenet(name))
    return network


def timm_model(name: str, weights: str | None) -> Any:
    """Build a timm network without its classifier, with random or, for ``"imagenet"``, its published weights."""
    import timm  # takes seconds to import

    if ":" in name and weights != "imagenet":
        raise UserError(
            f"{name!r} is fetched from a hub, which only works with weights imagenet; give a model name of timm"
        )
    options: dict[str, Any] = {"pretrained": weights == "imagenet", "num_classes": 0}
    try:
        try:
            # This resizes position embeddings to the image, if the network supports it.
            return timm.create_model(name, **options, dynamic_img_size=True)
        except TypeError:
            return timm.create_model(name, **options)
    except Exception as error:  # a download fails in many ways
        raise UserError(
            f"could not get the weights of {name}: {error}; set weights to the path of a state dict, or to null"
        ) from None


def with_file(take_apart: Callable[[Any], Backbone], network: nn.Module, name: str, weights: str | None) -> Backbone:
    """Make a backbone of a network, and load the user's file into the parts that are kept.

    The file may name its tensors as the network does, as the network inside another model, or, if it is one of our
    checkpoints, as the backbone does. It need not contain cropped stages or a classifier.

    Args:
        take_apart: Function that makes the backbone from the network's modules.
        network: The network.
        name: Name of the network, for messages.
        weights: Path of the file; ``None`` and ``"imagenet"`` load nothing.

    Raises:
        UserError: if the file is missing, holds no state dict, or belongs to another network.
    """
    published = set(network.state_dict())
    backbone = take_apart(network)
    if weights in (None, "imagenet"):
        return backbone
    state = read_state_dict(Path(str(weights)))
    parts = {id(tensor) for tensor in backbone.state_dict(keep_vars=True).values()}
    fits = []
    for module, known in ((network, published), (backbone, set(backbone.state_dict()))):
        needed = {key for key, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in parts}
        for prefix in {key.removesuffix(own) for own in sorted(needed)[:1] for key in state if key.endswith(own)}:
            under = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            fits.append((len(needed & set(under)), module, under, needed, known))
    if not fits:
        raise UserError(f"weights {weights!r} do not fit {name}: none of its tensors is in the file")
    _, module, under, needed, known = max(fits, key=lambda fit: fit[0])
    missing = sorted(needed - set(under))
    units = {_unit(key, module is backbone) for key in known}
    unexpected = sorted(key for key in set(under) - known if _unit(key, module is backbone) in units)
    if missing or unexpected:
        raise UserError(f"weights {weights!r} do not fit {name}: missing {missing[:3]}, unexpected {unexpected[:3]}")
    try:
        module.load_state_dict({key: value for key, value in under.items() if key in needed}, strict=False)
    except RuntimeError as error:
        raise UserError(f"weights {weights!r} do not fit {name}: {error}") from None
    return backbone


def _unit(key: str, ours: bool) -> str:
    """Return the module, or stage of ours, of a tensor; a file of weights has such a unit completely or not at all."""
    first, second = [*key.split("."), ""][:2]
    return f"{first}.{second}" if ours and first in ("stages", "blocks") else first


def read_tensors(path: Path) -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain values, without running code.

    Raises:
        Exception: of many kinds, if the file is anything else.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its records are compressed, which torch.save never does, and may be far larger")
    return torch.load(path, map_location="cpu", weights_only=True)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth`` file, a Lightning checkpoint or one of our checkpoints, without running code.

    Raises:
        UserError: if the file is missing, holds no state dict, or contains more than plain types.
    """
    if not path.is_file():
        raise UserError(f"weights {str(path)!r}: no such file; choose null, imagenet or a state dict's path")
    try:
        content = read_tensors(path)
    except Exception as error:  # other files fail in many ways
        with path.open("rb") as file:
            text = text_that_begins(file.read(1024))
        if text is not None:
            raise UserError(f"weights {str(path)!r}: a text that begins with {text!r}, not weights") from None
        raise UserError(f"weights {str(path)!r} cannot be read as a state dict: {str(error)[:200]}") from None
    if isinstance(content, dict):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not is_state_dict(content):
        raise UserError(f"weights {str(path)!r} hold no state dict; expected names and tensors of real numbers")
    return content


def is_state_dict(content: Any) -> TypeGuard[dict[str, Tensor]]:
    """Return whether ``content`` maps names to tensors of real numbers in memory."""
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) and _is_plain(value) for name, value in content.items()
    )


def _is_plain(tensor: Tensor) -> bool:
    is_odd = tensor.is_quantized or tensor.is_complex() or tensor.is_nested
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not is_odd


def _imagenet(name: str) -> dict[str, Tensor]:
    """Return torchvision's first ImageNet weights, through its download cache."""
    torchvision = import_torchvision()
    entry: Any = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]  # type: ignore[misc]
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"could not get the ImageNet weights of {name}: {error}; fetch {entry.url} on a machine with a network and "
            f"put the file {Path(entry.url).name} into {folder}, or set weights to null in params.yaml"
        ) from None
    return state
