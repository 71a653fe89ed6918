"""Stage ``check``: params.yaml -> data/params.ok, before anything is downloaded.

Builds model, miner and loss as the train stage will, so that a misspelt name, an option out of range
or a combination that cannot fit in memory costs seconds, not a download.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from vpr.configuration import build_criterion, build_model, load_configuration
from vpr.params import check_all, load_eval_sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ok", type=Path, required=True)
    args = parser.parse_args()
    try:
        check_all()
        configuration = load_configuration()
        # Weights are not needed to check the rest, and may take a download.
        random = replace(configuration, train=replace(configuration.train, weights=None))
        build_criterion(configuration, build_model(random), num_places=configuration.train.places_per_batch)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"check: {error}")
    if configuration.train.val_set not in (sets := load_eval_sets()):
        print(f"note: training validates on {configuration.train.val_set}, which is not among eval_sets {sets}")
    args.ok.parent.mkdir(parents=True, exist_ok=True)
    args.ok.write_text("params.yaml: every name, key and option is known\n", encoding="utf-8")


if __name__ == "__main__":
    main()
