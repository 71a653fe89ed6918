"""Timestamps in one form, so that their texts sort by time.

A date becomes digits in UTC, ``YYYYMMDDhhmmss`` or the beginning of it, with decimals if it has some. A number that is
no date, such as the seconds of a drive's clock or the number of a frame, becomes ``+`` and digits of equal length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import pairwise

_YEARS = range(1900, 2100)
_OFFSET = r"(?P<offset>[Zz]|[+-][0-9]{2}(:?[0-9]{2})?)"
_ISO = re.compile(
    r"(?P<date>[0-9]{4}([-:])[0-9]{2}(\2[0-9]{2})?)"
    rf"([Tt ](?P<time>[0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}})?)([.,](?P<decimals>[0-9]+))?\s*{_OFFSET}?)?"
)
_DIGITS = re.compile(
    rf"(?P<date>[0-9]{{4}}([0-9]{{2}}){{0,2}})([Tt_]?(?P<time>([0-9]{{2}}){{1,3}}))?([.](?P<decimals>[0-9]+))?{_OFFSET}?"
)
_UNIX = re.compile(r"[0-9]+([.][0-9]*)?")
_NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?")
_DATE_DIGITS = 6  # a number with as many may be meant as a date


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
            if parse is _number:
                _require_no_dates(list(unique))
            return [found[text] or "" if text else "" for text in texts]
    forms = {text: [form for form, parse in FORMS.items() if parse(text) is not None] for text in unique}
    unknown = next((text for text, fitting in forms.items() if not fitting), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not a timestamp; expected {'; '.join(FORMS)}")
    first = next(iter(forms))
    other = next((text for text in forms if not set(forms[text]) & set(forms[first])), list(forms)[-1])
    raise ValueError(f"timestamps of several forms, such as {first!r} and {other!r}; write all of them in one form")


def _require_no_dates(texts: list[str]) -> None:
    """Refuse numbers at least half of which are dates, such as Unix times and a 0 for an unknown one.

    A Unix time that a spreadsheet wrote as 1.62635E+09 has lost its last digits.
    """
    whole = {text: f"{float(text):.0f}" if "e" in text.lower() else text for text in texts}
    dates = [
        text for text in texts if len(whole[text]) >= _DATE_DIGITS and (_digits(whole[text]) or _unix(whole[text]))
    ]
    others = sorted(set(texts) - set(dates)) or dates[-1:]
    if dates and 2 * len(dates) >= len(texts):
        raise ValueError(
            f"timestamps of several forms, such as {dates[0]!r} and {others[0]!r}; correct these, or leave them empty"
        )


def plain_timestamp(value: str) -> str:
    """Return one timestamp in the form of ``plain_timestamps``; ``""`` for a text that is not a date."""
    text = value.strip()
    return next((found for parse in (_iso, _iso_with_offset, _digits, _unix) if (found := parse(text))), "")


def parse_since(text: str) -> str:
    """Parse a date from which on photos are wanted; 1 July 2021 is the same as July 2021.

    Raises:
        ValueError: for anything but a date.
    """
    found = plain_timestamp(text)
    if not found:
        raise ValueError(f"{text!r} is not a date; expected one such as 2019, 2019-06, 20190630 or 2019-06-30T14:00")
    # The beginning of a month is the month, so that photos of which only the month is known are found.
    while (len(found) > 8 and found.endswith("00")) or (4 < len(found) <= 8 and found.endswith("01")):
        found = found[:-2]
    return found


def _iso(text: str) -> str | None:
    found = _ISO.fullmatch(text)
    return _checked(found["date"], found["time"], found["decimals"]) if found and not found["offset"] else None


def _iso_with_offset(text: str) -> str | None:
    found = _ISO.fullmatch(text) or _DIGITS.fullmatch(text)
    if not found or not found["offset"] or not found["time"]:
        return None
    local, sign = _checked(found["date"], found["time"], found["decimals"]), found["offset"][0]
    if local is None or len(local) < 12:
        return None
    digits, _, decimals = local.partition(".")
    hours, minutes = (int(part or 0) for part in (found["offset"][1:3].strip(":"), found["offset"][3:].strip(":")))
    if sign in "Zz":
        return local
    turn = timedelta(hours=hours, minutes=minutes) * (1 if sign == "+" else -1)
    at = _moment(digits) - turn
    return f"{at:%Y%m%d%H%M%S}"[: len(digits)] + (f".{decimals}" if decimals else "")


def _digits(text: str) -> str | None:
    found = _DIGITS.fullmatch(text)
    if not found or found["offset"] or (found["time"] and len(found["date"]) < 8):
        return None
    return _checked(found["date"], found["time"], found["decimals"])


def _checked(date: str, time: str | None, decimals: str | None) -> str | None:
    """Return the digits of a date if it exists; decimals of zero are dropped, and others need seconds."""
    digits = re.sub(r"\D", "", date + (time or ""))
    decimals = (decimals or "").rstrip("0")
    if int(digits[:4]) not in _YEARS or (decimals and len(digits) < 14):
        return None
    try:
        _moment(digits)
    except ValueError:
        return None
    return digits + (f".{decimals}" if decimals else "")


def _moment(digits: str) -> datetime:
    """Return the beginning of the period that digits name.

    Raises:
        ValueError: if it does not exist.
    """
    whole = digits + "00000101000000"[len(digits) :]
    year, month, day, hour, minute, second = (int(whole[a:b]) for a, b in pairwise((0, 4, 6, 8, 10, 12, 14)))
    return datetime(year, month, day, hour, minute, second)


def _unix(text: str) -> str | None:
    if not _UNIX.fullmatch(text):
        return None
    whole, _, decimals = text.partition(".")
    if len(whole) not in (9, 10, 13, 16, 19):
        return None
    micros = int(whole + decimals.ljust(6, "0")[:6]) if len(whole) <= 10 else int(whole.ljust(16, "0")[:16])
    at = datetime(1970, 1, 1) + timedelta(microseconds=micros)
    return _checked(f"{at:%Y%m%d}", f"{at:%H%M%S}", f"{at:%f}")


def _number(text: str) -> str | None:
    value = float(text) if _NUMBER.fullmatch(text) else -1.0
    return f"+{abs(value):027.6f}" if 0 <= value < 1e19 else None


FORMS: dict[str, Callable[[str], str | None]] = {
    "a date in ISO 8601, such as 2021-07-15 or 2021-07-15T14:30:00": _iso,
    "a date in ISO 8601 with an offset, such as 2021-07-15T14:30:00+02:00": _iso_with_offset,
    "the digits of a date, such as 2021, 202107 or 20210715143000": _digits,
    "seconds, milliseconds or microseconds since 1970, such as 1626352200": _unix,
    "a number of a drive's own clock, from 0 on, such as 12.5": _number,
}
