"""A hook of ``mkdocs build`` that adds the style sheet of all pages."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from vpr.pages.look import site_look


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add ``site.css``; MkDocs calls it."""
    files.append(File.generated(config, "site.css", content=site_look()))
    return files
