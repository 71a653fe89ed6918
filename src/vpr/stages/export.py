"""Stage ``export``: data/models -> data/model.ckpt, the model as it is evaluated and used.

The best or the last checkpoint, at the image size it was trained at or another, with PCA or without: what changes
after training, and so costs no training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.config.params import load
from vpr.data.manifest import read_manifest
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.export import exported
from vpr.model.params import ExportParams, ExtractParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of best.ckpt and last.ckpt")
    parser.add_argument("--manifest", type=Path, required=True, help="of the training images")
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    params = load(ExportParams)
    trained, metadata = load_checkpoint(args.models / f"{params.checkpoint}.ckpt")
    scratch = args.model.with_suffix(".npy")
    model = exported(trained, params, load(ExtractParams), read_manifest(args.manifest), scratch)
    save_checkpoint(args.model, model.spec, model.state_dict(), {**metadata, "checkpoint": params.checkpoint})
    height, width = model.spec.image_size
    print(f"{params.checkpoint} checkpoint, images of {height} x {width}, descriptor {model.descriptor_dim}")


if __name__ == "__main__":
    run_stage(main)
