"""Write all generated pages and blocks: ``make docs``. Run from the project's root."""

from __future__ import annotations

import warnings
from pathlib import Path

from tools.docs import components, model_names, parameters, performance, reproduction
from tools.docs.blocks import write_blocks
from tools.docs.chaos import with_chaos
from tools.docs.exports import with_exports
from tools.docs.readme import with_names, with_recalls
from tools.docs.reruns import with_tables

PARAMS, PIPELINE, DOCS = Path("params.yaml"), Path("dvc.yaml"), Path("docs")
CHAOS, EXPORTS = Path("benchmarks/chaos.json"), Path("benchmarks/onnx_export.json")


def main() -> None:
    write_blocks(PARAMS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about modules on the meta device
        (DOCS / "components.md").write_text(components.page(), encoding="utf-8")
    (DOCS / "parameters.md").write_text(parameters.page(PARAMS), encoding="utf-8")
    speed = performance.page(Path("benchmarks/results"), DOCS / "performance.png")
    (DOCS / "performance.md").write_text(speed, encoding="utf-8")
    (DOCS / "published-weights.md").write_text(model_names.page(), encoding="utf-8")
    published = reproduction.page(Path("data/sources.yaml"))
    (DOCS / "reproduction.md").write_text(published, encoding="utf-8")
    page = DOCS / "pipeline.md"
    text = with_chaos(with_tables(page.read_text(encoding="utf-8"), PIPELINE), CHAOS)
    page.write_text(text, encoding="utf-8")
    library = DOCS / "library.md"
    library.write_text(with_exports(library.read_text(encoding="utf-8"), EXPORTS), encoding="utf-8")
    readme = Path("README.md")
    text = with_names(with_recalls(readme.read_text(encoding="utf-8"), PARAMS))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
