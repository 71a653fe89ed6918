"""A model for other programs: ONNX, for runtimes without torch, or a program of ``torch.export``, for torch alone.

Input ``images`` ``(batch, 3, H, W)``, uint8, RGB, resized to the model's size; it is normalised inside. Output
``descriptors`` ``(batch, D)``, of unit norm. What resizing has to do, and what the model is, is in the file's metadata.
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

from vpr.config.errors import UserError
from vpr.model.checkpoint import load_checkpoint
from vpr.model.inference import for_inference
from vpr.model.vpr_model import VPRModel

TOLERANCE = 1e-4  # of a number of a descriptor, whose norm is 1
OPSET = 20
RESIZE = "bilinear with antialiasing, aspect ratio not kept; Pillow's Image.resize((W, H), Image.BILINEAR)"

Runtime = Callable[[Tensor], NDArray[np.float32]]


def export_onnx(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write a model as ONNX; see ``_export``.

    Raises:
        UserError: if packages are missing as well.
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
        assert program is not None, "with dynamo it is returned"
        written = program.model_proto  # made anew whenever it is asked for
        onnx.helper.set_model_props(written, metadata)
        onnx.save(written, part)
        session = onnxruntime.InferenceSession(part.read_bytes(), providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {"images": batch.numpy()})[0]

    return _export(checkpoint, out, "ONNX", write)


def export_torch(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write a model as a program of ``torch.export``, for which ``torch.export.load`` needs none of this code."""

    def write(network: nn.Module, images: Tensor, metadata: dict[str, str], part: Path) -> Runtime:
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, part, extra_files=metadata)
        loaded = torch.export.load(part).module()
        return lambda batch: loaded(batch).numpy()

    return _export(checkpoint, out, "a program of torch.export", write)


def _export(
    checkpoint: Path, out: Path, kind: str, write: Callable[[nn.Module, Tensor, dict[str, str], Path], Runtime]
) -> dict[str, Any]:
    """Write a model, and hold what is read back against it; the file is whole and equal, or not there.

    Args:
        kind: what is written, for messages.
        write: takes the network, sample images, metadata and the file; returns how the file describes images.

    Returns:
        ``descriptor_dim``, ``image_size``, ``bytes``, and ``largest_difference`` between the two.

    Raises:
        UserError: if the model has a part that can't be written, or descriptors differ by more than 1e-4.
    """
    model, _ = load_checkpoint(checkpoint)
    network = for_inference(model, torch.device("cpu"))
    height, width = model.spec.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    part = out.with_name(f".part-{out.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            describe = write(network, images, _metadata(model), part)
            differences = [
                np.abs(describe(batch) - model(batch).numpy()).max()
                for batch in (images, images[:1], torch.cat([images, images.flip(3)]))
            ]
    except Exception as error:  # they fail in many ways
        reason = " ".join(str(error).split())[:300]
        spec = model.spec
        raise UserError(f"{spec.backbone} with {spec.aggregator} can't be written as {kind}: {reason}") from None
    else:
        largest = float(np.max(differences))
        if not largest <= TOLERANCE:  # nor NaN
            raise UserError(f"the descriptors of {kind} differ from torch's by {largest:.1e}; nothing was written")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
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
        "channels": "RGB, 0 to 255; the model normalises them itself",
        "descriptor_dim": str(model.descriptor_dim),
    }
