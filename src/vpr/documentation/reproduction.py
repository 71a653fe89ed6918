"""docs/reproduction.md: published recalls with ours beside them."""

from __future__ import annotations

from pathlib import Path

from vpr.documentation.components import table
from vpr.experiments.reproduction import read_published
from vpr.sources.catalogue import EVALUATION, load_sources

PAGE = """# Published recalls, and ours

Written by `make docs` from `src/vpr/api/published.csv` and `data/sources.yaml`. A row is run by one command:

```bash
vpr reproduce mixvpr_resnet50_4096/pitts30k
```

It fetches the weights, or takes what `vpr import` wrote, evaluates the model by the set's protocol (`dataset:
benchmarks`), and prints ours beside the published recall. What no one has run says so. Recalls are in percent.

{recalls}

## Protocols

Recalls differ more by protocol than by method. Every source names its own, and `metrics/recalls/<set>.json` repeats it.

{protocols}

Of MSLS val, papers evaluate 740 queries, those of [the key list that gsv-cities
has](https://github.com/amaralibey/gsv-cities/tree/main/datasets/msls_val): `msls_val_740` takes the queries whose keys
stand in `msls_val_740.txt`, a key a line, beside the images; `msls_val` takes all.
"""


def page(published: Path, catalogue: Path) -> str:
    """The page's text."""
    rows = [
        [f"`{row.name}`", _pair(row.recalls), f"{_pair(row.ours)} ({row.run})" if row.run else "not run", row.source]
        for row in read_published(published)
    ]
    protocols = [
        [f"`{name}`", source.protocol]
        for name, source in load_sources(catalogue).items()
        if source.layout in EVALUATION
    ]
    return PAGE.format(
        recalls=table(["row", "published R@1 / R@5", "ours", "source"], rows),
        protocols=table(["set", "protocol"], protocols),
    )


def _pair(recalls: tuple[float | None, float | None]) -> str:
    return " / ".join("–" if recall is None else f"{recall:.1f}" for recall in recalls)
