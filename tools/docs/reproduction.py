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
repeats it. One command describes the images of a set once. It prints a model's recall under each protocol, with and
without queries that have no positive, beside the recall published for that protocol:

```bash
vpr protocols mixvpr_resnet50_4096/nordland
```

{protocols}

Nordland has three protocols in use. Papers on GSV-Cities ("Nordland*") search 2,760 summer frames, every tenth, in
27,592 winter frames, and count one frame before and after: `nordland_2760`. Others search 27,592 winter frames in
summer, and count one frame before and after (`nordland`) or ten (`nordland_10`, as metres `nordland_25m`). BoQ's page
states thresholds of 1 and 10 frames, but no numbers of queries; they are taken to be 2,760 and 27,592.

Papers evaluate 740 queries of MSLS val, those of [gsv-cities' key
list](https://github.com/amaralibey/gsv-cities/tree/main/datasets/msls_val). `msls_val_740` reads these keys, one a
line, from `msls_val_740.txt` beside the images; `msls_val` evaluates all queries. The sets that end in `_lists` read
gsv-cities' own lists of images and positives, its folder `datasets`, from beside the images. Some of these lists hold
Python objects, which are read only with `allow_pickle: true`, because reading them could run code.
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
