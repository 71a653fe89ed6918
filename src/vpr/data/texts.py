"""Recognise text where another kind of file is expected, such as a web page that was downloaded instead of a file."""

from __future__ import annotations

_LOOKED_AT, _SHOWN = 512, 40


def text_that_begins(content: bytes) -> str | None:
    """Return the beginning of a text file, to be shown in a message; ``None`` if the content is not text.

    Args:
        content: Content of a file, or its first bytes.
    """
    try:
        start = content[:_LOOKED_AT].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        if error.start < min(len(content), _LOOKED_AT) - 4:  # not just a letter that was cut in two
            return None
        start = content[: error.start].decode("utf-8").strip()
    if not start or not all(letter.isprintable() or letter.isspace() for letter in start):
        return None
    return " ".join(start.split())[:_SHOWN]
