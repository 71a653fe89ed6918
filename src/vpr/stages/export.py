"""Stage ``export``: write data/model.ckpt, the model that is evaluated and used.

It is the best or the last checkpoint, at the image size of the training or another, with or without PCA. These choices
need no new training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import Params
from vpr.data.manifest import read_manifest
from vpr.descriptors.evaluated_model import evaluated_model
from vpr.descriptors.params import ExportParams, ExtractParams
from vpr.model.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of best.ckpt and last.ckpt")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    content = Params.read()
    params = content.section(ExportParams)
    trained, metadata = load_checkpoint(args.models / f"{params.checkpoint}.ckpt")
    scratch = args.model.with_suffix(".npy")
    manifest = read_manifest(args.manifest)
    model = evaluated_model(trained, params, content.section(ExtractParams), manifest, scratch)
    save_checkpoint(args.model, model.spec, model.state_dict(), {**metadata, "checkpoint": params.checkpoint})
    height, width = model.spec.image_size
    print(f"{params.checkpoint} checkpoint, images of {height} x {width}, descriptor {model.descriptor_dim}")


if __name__ == "__main__":
    run_stage(main)
