"""A model as ONNX, for runtimes without torch: ``vpr export --onnx model.onnx``.

Input ``images`` ``(batch, 3, H, W)``, uint8, RGB, resized to the model's size; it is normalised inside. Output
``descriptors`` ``(batch, D)``, of unit norm. What resizing has to do, and what the model is, is in the file's metadata.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vpr.config.errors import UserError
from vpr.model.checkpoint import load_checkpoint
from vpr.model.inference import for_inference

TOLERANCE = 1e-4  # of a number of a descriptor, whose norm is 1
OPSET = 20
RESIZE = "bilinear with antialiasing, aspect ratio not kept; Pillow's Image.resize((W, H), Image.BILINEAR)"


def export_onnx(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write a model, and hold what onnxruntime makes of it against torch; the file is whole and equal, or not there.

    Returns:
        ``descriptor_dim``, ``image_size``, ``bytes``, and ``largest_difference`` between the two.

    Raises:
        UserError: if packages are missing, the model has a part that ONNX has not, or descriptors differ by more than
            1e-4.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: `make setup-onnx`, or pip install 'vpr[onnx]'") from None
    model, _ = load_checkpoint(checkpoint)
    fast = for_inference(model, torch.device("cpu"))
    height, width = model.spec.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    part = out.with_name(f".{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                fast,
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["descriptors"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
        assert program is not None, "with dynamo it is returned"
        written = program.model_proto
        onnx.helper.set_model_props(written, _metadata(model.spec, model.descriptor_dim))
        onnx.save(written, part)
        session = onnxruntime.InferenceSession(part.read_bytes(), providers=["CPUExecutionProvider"])
        largest = 0.0
        for batch in (images, images[:1], torch.cat([images, images.flip(3)])):
            (found,) = session.run(None, {"images": batch.numpy()})
            with torch.inference_mode():
                difference = float(np.abs(found - model(batch).numpy()).max())
                largest = difference if not np.isfinite(difference) else max(largest, difference)
    except Exception as error:  # both fail in many ways
        reason = " ".join(str(error).split())[:300]
        spec = model.spec
        raise UserError(f"{spec.backbone} with {spec.aggregator} can't be written as ONNX: {reason}") from None
    else:
        if not largest <= TOLERANCE:
            raise UserError(f"onnxruntime's descriptors differ from torch's by {largest:.1e}; nothing was written")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return {
        "descriptor_dim": model.descriptor_dim,
        "image_size": [height, width],
        "bytes": out.stat().st_size,
        "largest_difference": largest,
    }


def _metadata(spec: Any, descriptor_dim: int) -> dict[str, str]:
    return {
        "vpr_spec": json.dumps(asdict(spec)),
        "image_height_px": str(spec.image_size[0]),
        "image_width_px": str(spec.image_size[1]),
        "resize": RESIZE,
        "channels": "RGB, 0 to 255; the model normalises them itself",
        "descriptor_dim": str(descriptor_dim),
    }
