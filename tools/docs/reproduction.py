"""docs/reproduction.md: published recalls, and how to reproduce them."""

from __future__ import annotations

from pathlib import Path

from tools.docs.components import table
from vpr.published.reproduction import read_published
from vpr.sources.catalogue import EVALUATION, load_sources

PAGE = """# Published recalls

*Written by `make docs` from `src/vpr/published/recalls.csv` and `data/sources.yaml`.*

One command reproduces a row:

```bash
vpr reproduce mixvpr_resnet50_4096/pitts30k
```

It fetches the weights and the images, evaluates the model with the set's protocol (`dataset: benchmarks`), and prints
the recalls beside the published ones. Recalls are in percent. No row has been run yet, because the files are large and
some owners have to be asked for them.

{recalls}

## Protocols

Recalls can differ more by protocol than by method. Every source states its protocol, and `metrics/recalls/<set>.json`
repeats it.

{protocols}

Papers evaluate 740 queries of MSLS val, those of [gsv-cities' key
list](https://github.com/amaralibey/gsv-cities/tree/main/datasets/msls_val). `msls_val_740` reads these keys, one a
line, from `msls_val_740.txt` beside the images; `msls_val` evaluates all queries.
"""


def page(catalogue: Path) -> str:
    """Return the page."""
    rows = [[f"`{row.name}`", _pair(row.recalls), row.source] for row in read_published()]
    protocols = [
        [f"`{name}`", source.protocol]
        for name, source in load_sources(catalogue).items()
        if source.layout in EVALUATION
    ]
    return PAGE.format(
        recalls=table(["row", "published R@1 / R@5", "source"], rows),
        protocols=table(["set", "protocol"], protocols),
    )


def _pair(recalls: tuple[float | None, float | None]) -> str:
    return " / ".join("–" if recall is None else f"{recall:.1f}" for recall in recalls)
