"""The documentation as a site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from vpr.pages.look import site_look

ROOT = Path(__file__).parents[3]


def test_the_site_is_built_without_a_warning_and_every_page_is_on_it(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'<li><a href="([\w-]+)/"', index)) | {"index"}
    assert linked == pages
    assert (tmp_path / "site.css").read_text(encoding="utf-8") == site_look()
    assert "http" not in re.sub(r'href="https?://[^"]*"', "", index), "a page loads nothing from elsewhere"
