"""Stage ``sets``: write the manifest of one evaluation set, data/manifest/sets/<set>.parquet.

With a file for each set, adding a set does not extract the others again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.config.errors import run_stage
from vpr.data.manifest import read_manifest, set_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of all evaluation sets")
    parser.add_argument("--set", required=True, help="name of the evaluation set")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write_manifest(set_manifest(read_manifest(args.manifest), args.set), args.out)


if __name__ == "__main__":
    run_stage(main)
