"""Models as ONNX: what is written, how large, how equal, and how fast onnxruntime is beside torch on the CPU.

Every aggregator once, and backbones of each kind, random weights. Rates are of batches of 8 on all cores, in turns.

Run: python benchmarks/onnx_export.py benchmarks/onnx_export.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from vpr.api.export import export_onnx
from vpr.config.errors import UserError
from vpr.model.checkpoint import save_checkpoint
from vpr.model.inference import for_inference
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

CROPPED: dict[str, Any] = {"layers_to_crop": [4]}
WHOLE: dict[str, Any] = {"layers_to_crop": []}
MODELS = [
    ("resnet18", WHOLE, "cosplace", {}, (320, 320)),
    ("resnet50", CROPPED, "mixvpr", {"out_channels": 1024, "out_rows": 4}, (320, 320)),
    ("efficientnet_lite0", WHOLE, "gem", {}, (180, 320)),
    ("dinov2_vits14", WHOLE, "salad", {}, (224, 224)),
    ("resnet18", CROPPED, "netvlad", {}, (224, 224)),
    ("resnet18", CROPPED, "boq", {}, (224, 224)),
    ("resnet18", WHOLE, "convap", {}, (224, 224)),
    ("convnext_tiny", CROPPED, "avg", {}, (224, 224)),
    ("vgg16", CROPPED, "max", {}, (224, 224)),
    ("swin_v2_t", CROPPED, "gem", {}, (224, 224)),
]
BATCH, ROUNDS = 8, 5


def measure(spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """A row: of a model that can be written, or the reason why it cannot."""
    row: dict[str, Any] = {"backbone": spec.backbone, "aggregator": spec.aggregator, "image_size": spec.image_size}
    torch.manual_seed(0)
    model = VPRModel(spec).eval()
    save_checkpoint(folder / "m.ckpt", spec, model.state_dict(), {})
    try:
        facts = export_onnx(folder / "m.ckpt", folder / "m.onnx")
    except UserError as error:
        return row | {"refused": str(error)}
    session = onnxruntime.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"])
    fast = for_inference(model, torch.device("cpu"))
    images = torch.randint(0, 256, (BATCH, 3, *spec.image_size), dtype=torch.uint8)
    rates: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
    calls = {
        "torch": lambda: fast(images),
        "onnxruntime": lambda: session.run(None, {"images": images.numpy()}),
    }
    with torch.inference_mode():
        for call in calls.values():
            call()
        for _ in range(ROUNDS):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                rates[name].append(BATCH / (time.perf_counter() - started))
    per_second = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    ratio = float(np.median(np.array(rates["onnxruntime"]) / np.array(rates["torch"])))
    return row | {
        "descriptor_dim": facts["descriptor_dim"],
        "megabytes": round(facts["bytes"] / 10**6, 1),
        "largest_difference": float(f"{facts['largest_difference']:.0e}"),
        "images_per_second": per_second,
        "ratio": round(ratio, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone, options, aggregator, more, size in MODELS:
            rows.append(measure(ModelSpec(backbone, options, aggregator, more, size), Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    args.results.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
