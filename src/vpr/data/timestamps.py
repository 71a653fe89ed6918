"""Timestamps in one form, so that their texts sort by time.

A date becomes digits in UTC, ``YYYYMMDDhhmmss`` or the beginning of it, with decimals if it has some. A number that is
no date, such as the seconds of a drive's clock or the number of a frame, becomes ``+`` and digits of equal length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

_YEARS = range(1900, 2100)
_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d(-\d\d)?)"
    r"([T ](?P<time>\d\d:\d\d(:\d\d)?)([.,](?P<decimals>\d+))?\s*(?P<offset>Z|[+-]\d\d:?\d\d)?)?"
)
_DIGITS = re.compile(r"(?P<digits>\d{4}(\d\d){0,2})([T_]?(?P<time>(\d\d){1,3}))?([.](?P<decimals>\d+))?")
_NUMBER = re.compile(r"\+?\d+([.]\d*)?")


def plain_timestamps(values: Iterable[str]) -> list[str]:
    """Return the timestamps of a column in one form; an empty text stays empty.

    Raises:
        ValueError: if a text is not a timestamp, or the column mixes several forms, which cannot be ordered.
    """
    texts = [value.strip() for value in values]
    unique = dict.fromkeys(text for text in texts if text)
    for parse in FORMS.values():
        found = {text: parse(text) for text in unique}
        if None not in found.values():
            return [found[text] or "" if text else "" for text in texts]
    forms = {text: [form for form, parse in FORMS.items() if parse(text) is not None] for text in unique}
    unknown = next((text for text, fitting in forms.items() if not fitting), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not a timestamp; expected {'; '.join(FORMS)}")
    first = next(iter(forms))
    other = next((text for text in forms if not set(forms[text]) & set(forms[first])), list(forms)[-1])
    raise ValueError(f"timestamps of several forms, such as {first!r} and {other!r}; write all of them in one form")


def plain_timestamp(value: str) -> str:
    """Return one timestamp in the form of ``plain_timestamps``; ``""`` for a text that is not a date."""
    text = value.strip()
    return next((found for parse in (_iso, _iso_with_offset, _digits, _unix) if (found := parse(text))), "")


def parse_since(text: str) -> str:
    """Parse a date from which on photos are wanted.

    Raises:
        ValueError: for anything but a date.
    """
    found = plain_timestamp(text)
    if not found:
        raise ValueError(f"{text!r} is not a date; expected one such as 2019, 2019-06, 20190630 or 2019-06-30T14:00")
    return found


def _iso(text: str) -> str | None:
    found = _ISO.fullmatch(text)
    return _checked(found["date"], found["time"], found["decimals"]) if found and not found["offset"] else None


def _iso_with_offset(text: str) -> str | None:
    found = _ISO.fullmatch(text)
    if not found or not found["offset"] or _checked(found["date"], found["time"], None) is None:
        return None
    try:
        local = datetime.fromisoformat(f"{found['date']}T{found['time']}{found['offset']}")
        at = local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    seconds = ":%S" if found["time"].count(":") == 2 else ""
    return _checked(f"{at:%Y-%m-%d}", at.strftime(f"%H:%M{seconds}"), found["decimals"])


def _digits(text: str) -> str | None:
    found = _DIGITS.fullmatch(text)
    if not found or (found["time"] and len(found["digits"]) < 8):
        return None
    return _checked(found["digits"], found["time"], found["decimals"])


def _checked(date: str, time: str | None, decimals: str | None) -> str | None:
    """Return the digits of a date if it exists; decimals of zero are dropped, and others need seconds."""
    digits = re.sub(r"\D", "", date + (time or ""))
    decimals = (decimals or "").rstrip("0")
    if int(digits[:4]) not in _YEARS or (decimals and len(digits) < 14):
        return None
    try:
        datetime.strptime(digits + "00000101000000"[len(digits) :], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return digits + (f".{decimals}" if decimals else "")


def _unix(text: str) -> str | None:
    if not _NUMBER.fullmatch(text) or text.startswith("+"):
        return None
    whole, _, decimals = text.partition(".")
    if len(whole) not in (9, 10, 13, 16, 19):
        return None
    micros = int(whole + decimals.ljust(6, "0")[:6]) if len(whole) <= 10 else int(whole.ljust(16, "0")[:16])
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    return _checked(f"{at:%Y%m%d}", f"{at:%H%M%S}", f"{at:%f}")


def _number(text: str) -> str | None:
    return f"+{float(text):020.6f}" if _NUMBER.fullmatch(text) and float(text) < 1e13 else None


FORMS: dict[str, Callable[[str], str | None]] = {
    "a date in ISO 8601, such as 2021-07-15 or 2021-07-15T14:30:00": _iso,
    "a date in ISO 8601 with an offset, such as 2021-07-15T14:30:00+02:00": _iso_with_offset,
    "the digits of a date, such as 2021, 202107 or 20210715143000": _digits,
    "seconds, milliseconds or microseconds since 1970, such as 1626352200": _unix,
    "a number of a drive's own clock, from 0 on, such as 12.5": _number,
}
