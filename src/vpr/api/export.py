"""Export a model as ONNX, for runtimes without torch, or as a program of ``torch.export``, for torch without vpr.

The input ``images`` is ``(batch, 3, H, W)``, uint8, RGB, resized to the model's size; the model normalises it. The
output ``descriptors`` is ``(batch, D)``, of unit norm. The file's metadata describe the model and the resizing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError, one_line
from vpr.model.checkpoint import load_checkpoint
from vpr.model.inference import for_inference
from vpr.model.vpr_model import VPRModel

TOLERANCE = 1e-4  # largest difference of a number of a descriptor, whose norm is 1
OPSET = 20
RESIZE = "bilinear with antialiasing, aspect ratio not kept; Pillow's Image.resize((W, H), Image.BILINEAR)"

Runtime = Callable[[Tensor], NDArray[np.float32]]


def export_onnx(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write a model as ONNX; see ``_export``.

    Raises:
        UserError: if packages are missing, or as ``_export``.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: `make setup-onnx`, or pip install 'vpr[onnx]'") from None

    def write(network: nn.Module, images: Tensor, metadata: dict[str, str], part: Path) -> Runtime:
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["descriptors"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
        assert program is not None, "with dynamo=True, the program is returned"
        written = program.model_proto  # the property makes a new object at each access
        onnx.helper.set_model_props(written, metadata)
        onnx.save(written, part)
        session = onnxruntime.InferenceSession(part.read_bytes(), providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {"images": batch.numpy()})[0]

    return _export(checkpoint, out, "ONNX", write)


def export_torch(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write a model as a program that ``torch.export.load`` reads without this package; see ``_export``."""

    def write(network: nn.Module, images: Tensor, metadata: dict[str, str], part: Path) -> Runtime:
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, part, extra_files=metadata)
        loaded = torch.export.load(part).module()
        return lambda batch: loaded(batch).numpy()

    return _export(checkpoint, out, "a program of torch.export", write)


def _export(
    checkpoint: Path, out: Path, kind: str, write: Callable[[nn.Module, Tensor, dict[str, str], Path], Runtime]
) -> dict[str, Any]:
    """Write a model, read it back, and keep the file only if it describes images as the model does.

    Args:
        checkpoint: Checkpoint of the model.
        out: File to write.
        kind: Name of the format, for messages.
        write: Function of the network, sample images, metadata and the file; it writes the file, and returns a function
            that describes images with it.

    Returns:
        ``descriptor_dim``, ``image_size``, ``bytes``, and the ``largest_difference`` between the two.

    Raises:
        UserError: if a part of the model cannot be written, or descriptors differ by more than 1e-4.
    """
    model, _ = load_checkpoint(checkpoint)
    network = for_inference(model, torch.device("cpu"))
    height, width = model.spec.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    with atomic_write(out) as part:
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                describe = write(network, images, _metadata(model), part)
                differences = [
                    np.abs(describe(batch) - model(batch).numpy()).max()
                    for batch in (images, images[:1], torch.cat([images, images.flip(3)]))
                ]
        except Exception as error:  # exporters fail in many ways
            spec = model.spec
            raise UserError(
                f"{spec.backbone} with {spec.aggregator} cannot be written as {kind}: {one_line(error)}"
            ) from None
        largest = float(np.max(differences))
        if not largest <= TOLERANCE:  # true for NaN as well
            raise UserError(f"the descriptors of {kind} differ from torch's by {largest:.1e}; nothing was written")
    return {
        "descriptor_dim": model.descriptor_dim,
        "image_size": [height, width],
        "bytes": out.stat().st_size,
        "largest_difference": largest,
    }


def _metadata(model: VPRModel) -> dict[str, str]:
    height, width = model.spec.image_size
    return {
        "vpr_spec": json.dumps(asdict(model.spec)),
        "image_height_px": str(height),
        "image_width_px": str(width),
        "resize": RESIZE,
        "channels": "RGB, 0 to 255; the model normalises them",
        "descriptor_dim": str(model.descriptor_dim),
    }
