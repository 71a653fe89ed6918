"""Download one file over HTTP, with resuming and retries."""

from __future__ import annotations

import errno
import json
import random
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError, one_line
from vpr.config.progress import progress
from vpr.config.project import data_root
from vpr.sources.download.addresses import redacted
from vpr.sources.unpack import require_room, reserved_bytes

ATTEMPTS = 6  # in a row without progress
LONGEST_WAIT_S = 60.0
LONGEST_ASKED_S = 300.0  # longest Retry-After that is waited for
TIMEOUT_S = (15, 60)  # to connect, and between bytes
CHUNK_BYTES = 1 << 16  # an interruption loses at most this much
SLOWEST_BYTES_PER_S, SLOW_FOR_S = 1000, 60.0  # a connection below this rate for this long is closed
BUSY = {408, 425, 429}  # and 500 and above
HTTP_LOGIN = "a login: put server, user and password into ~/.netrc, or set a mirror that needs none"
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")


class Transient(Exception):
    """A problem that may be gone at the next attempt.

    Attributes:
        wait_s: Seconds that the server asks to wait.
        advice: Advice for the case that the problem remains.
    """

    def __init__(self, reason: str, wait_s: float | None = None, advice: str = "set a mirror") -> None:
        super().__init__(one_line(reason))
        self.wait_s, self.advice = wait_s, advice


def raise_for(where: str, response: requests.Response, url: str, login: str) -> None:
    """Raise ``Transient`` or ``UserError`` for an HTTP error."""
    status = response.status_code
    if status in BUSY or status >= 500:
        raise Transient(f"HTTP {status} {response.reason}", retry_after(response))
    if status in (401, 403):
        raise UserError(f"{where}.url: {redacted(url)} answers HTTP {status} {response.reason}; it requires {login}")
    if status >= 400 and status != 416:
        raise UserError(
            f"{where}.url: {redacted(url)} answers HTTP {status} {response.reason}: the link is dead; set a mirror, or "
            "download the file by hand and set the url to file:// and its path"
        )


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds to wait, from a number or a date; ``None`` if the server does not say."""
    text = response.headers.get("Retry-After", "")
    if (seconds := _whole(text)) is not None:
        return float(seconds)
    with suppress(TypeError, ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _whole(text: str) -> int | None:
    """Parse a number of bytes in a header; ``None`` for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def reason_of(error: Exception) -> str:
    """Describe an error without the signatures in addresses."""
    return re.sub(r"\?[^\s'\")]*", "?...", f"{type(error).__name__}: {error}")


def with_retries(where: str, url: str, attempt: Callable[[], Any], progress: Callable[[], int]) -> Any:
    """Repeat an attempt until it succeeds, with growing waits, up to ``ATTEMPTS`` times without progress.

    Args:
        where: Key in error messages.
        url: URL for messages.
        attempt: Function to repeat; it raises ``Transient`` if another attempt may succeed.
        progress: Function that returns the number of bytes on the disk.

    Returns:
        The result of ``attempt``.

    Raises:
        UserError: if all attempts fail, or the disk is full.
    """
    failures, most = 0, progress()
    while True:
        try:
            return attempt()
        except Transient as trouble:
            now = progress()
            failures = 1 if now >= most + CHUNK_BYTES else failures + 1
            most = max(most, now)
            if failures >= ATTEMPTS:
                raise UserError(
                    f"{where}.url: gave up on {redacted(url)} after {ATTEMPTS} attempts: {trouble}. The downloaded "
                    f"part is kept: run again to continue, or {trouble.advice}"
                ) from None
            wait_s = min(LONGEST_WAIT_S, 2.0**failures) * random.uniform(0.5, 1.0)
            if trouble.wait_s is not None and trouble.wait_s > LONGEST_ASKED_S:
                raise UserError(
                    f"{where}.url: {redacted(url)}: {trouble}, and the server asks to wait {trouble.wait_s:,.0f} s; "
                    f"run again then, or {trouble.advice}"
                ) from None
            wait_s = trouble.wait_s if trouble.wait_s is not None else wait_s
            print(f"{redacted(url)}: {trouble}; attempt {failures + 1} of {ATTEMPTS} in {wait_s:.0f} s", flush=True)
            time.sleep(wait_s)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UserError(
                f"{data_root()}: the disk is full while downloading {redacted(url)}; make room and run again to "
                "continue, or set DATA_ROOT to a larger disk"
            ) from None


def transfer(where: str, url: str, resolve: Callable[[], tuple[str, Any]], target: Path) -> Path:
    """Download one file; a part on the disk is continued if the server still has the same file.

    Args:
        where: Key in error messages.
        url: URL for messages.
        resolve: Function that returns the address and its cookies; called at each attempt, because signatures expire.
        target: File to write.
    """
    part = target.with_name(f"{target.name}.part")
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with_retries(
            where,
            url,
            lambda: _attempt(where, url, *resolve(), part),
            lambda: part.stat().st_size if part.is_file() else 0,
        )
        part.replace(target)
        _note_of(part).unlink(missing_ok=True)
    return target


class _PublicRedirects(requests.Session):
    """Refuses redirects from a public server into this machine or its network."""

    def __init__(self, where: str, url: str) -> None:
        super().__init__()
        self.where, self.url = where, url

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            there = urljoin(resp.url, target)
            if is_private(urlsplit(there).hostname) and not is_private(urlsplit(resp.url).hostname):
                raise UserError(
                    f"{self.where}.url: {redacted(self.url)} redirects to {redacted(there)}, which is in this "
                    "machine's own network; set the url to another address"
                )
        return target


def is_private(host: str | None) -> bool:
    """Return whether a host is this machine, or in its network."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return any(not ip_address(str(address).partition("%")[0]).is_global for address in found)


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _attempt(where: str, url: str, address: str, cookies: Any, part: Path) -> None:
    before: dict[str, Any] = {}
    if part.is_file():
        with suppress(OSError, ValueError):
            before = json.loads(_note_of(part).read_text(encoding="utf-8"))
    # Without a validator, two versions of a file could be mixed.
    offset = part.stat().st_size if before.get("validator") else 0
    if offset and offset == before["total"]:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "vpr (place-recognition pipeline)"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": before["validator"]}
    try:
        with (
            _PublicRedirects(where, url) as session,
            session.get(address, headers=headers, cookies=cookies, stream=True, timeout=TIMEOUT_S) as response,
        ):
            raise_for(where, response, url, HTTP_LOGIN)
            validator = _validator(response)
            span = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status_code in (206, 416) and not offset:
                raise Transient(f"the server answers HTTP {response.status_code} though no part was asked for")
            if response.status_code in (206, 416):
                same = response.status_code == 206 and span is not None and int(span[1]) == offset
                total = int(span[2]) if span is not None else None
                if not same or validator != before["validator"] or before["total"] not in (None, total):
                    part.unlink()
                    raise Transient("the file has changed since the download began; starting again")
            else:
                total, offset = _whole(response.headers.get("Content-Length", "")), 0
            if total is not None:
                require_room(part.parent, 2 * total - offset, f"downloading and unpacking {part.stem}")
            with part.open("ab" if offset else "wb") as file:
                write_json(_note_of(part), {"validator": validator, "total": total})
                with _bar(part.stem, total, offset) as bar:
                    since, received = time.monotonic(), 0
                    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                        file.write(chunk)
                        bar.update(len(chunk))
                        if total is None:  # the size is unknown
                            require_room(part.parent, reserved_bytes(part.parent), f"downloading {part.stem}")
                        received += len(chunk)
                        if (seconds := time.monotonic() - since) > SLOW_FOR_S:
                            if received < SLOWEST_BYTES_PER_S * seconds:
                                raise Transient(f"the server sent {received:,} bytes in {seconds:.0f} s")
                            since, received = time.monotonic(), 0
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise UserError(f"{where}.url: {redacted(url)} is not a valid address: {reason_of(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Transient(reason_of(error)) from None
    except ValueError as error:  # the address of a redirect
        raise UserError(f"{where}.url: {redacted(url)} redirects to an invalid address: {reason_of(error)}") from None
    if total is not None and part.stat().st_size != total:
        raise Transient(f"the connection was closed at {part.stat().st_size:,} of {total:,} bytes")


def _validator(response: requests.Response) -> str | None:
    """Return the validator of a file's version; ``None`` if the server sends none."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _bar(name: str, total: int | None, done: int) -> Any:
    return progress(total, f"downloading {name}", "B", done, unit_scale=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
