"""The page of all components, which takes a while to make."""

from __future__ import annotations

import pytest

from scratch_project import ROOT
from vpr.documentation import components


@pytest.mark.filterwarnings("ignore")  # of modules made on the meta device
def test_the_components_page_is_what_the_code_says():
    assert (ROOT / "docs" / "components.md").read_text(encoding="utf-8") == components.page(), "run `make docs`"
