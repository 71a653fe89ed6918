"""Pages in Chromium, watched for errors and for what they ask of others."""

from __future__ import annotations

from typing import Any


def watched_page(browser: Any, width: int, troubles: list[str], ours: tuple[str, ...]) -> Any:
    """An empty page.

    Args:
        troubles: errors are added to it, and addresses that are asked for and do not begin as ``ours`` do.
    """
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith(ours) else troubles.append(asked.url))
    return page
