"""Texts that were taken for something else, such as a page that was downloaded in place of a file."""

from __future__ import annotations

_LOOKED_AT, _SHOWN = 512, 40


def text_that_begins(content: bytes) -> str | None:
    """The beginning of a text, to be shown in a message; ``None`` if the content is no text.

    Args:
        content: of a file, or what it begins with.
    """
    try:
        start = content[:_LOOKED_AT].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        if error.start < min(len(content), _LOOKED_AT) - 4:  # not a letter that was cut
            return None
        start = content[: error.start].decode("utf-8").strip()
    if not start or not all(letter.isprintable() or letter.isspace() for letter in start):
        return None
    return " ".join(start.split())[:_SHOWN]
