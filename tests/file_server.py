"""A local HTTP server that misbehaves on request, in the roles of a file server, of Google Drive and of Kaggle."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Files:
    """The server's content and behaviour, and the requests that it got.

    Attributes:
        content: bytes by path.
        script: behaviours of the next requests for a file, in order: a status to answer, ``("break", n)`` to
            close the connection after ``n`` bytes of the body, ``("redirect", address)``,
            ``"whole"`` to ignore a range, ``"length unknown"`` to
            send no length, ``"unasked part"`` to answer with the first half as a part, ``"drip"`` to send a byte at
            a time; ``None`` for none.
        asked: method, path and range of each request.
        drive: a Drive folder, its id and the names and ids of its files.
        bytes_per_s: how fast files are sent; ``None`` for at once.
        sent: bytes of files that were sent.
        names_version: whether files have an ETag.
        ignores_if_range: answer a range also of another version.
        needs_login: the Kaggle part answers 403 without an ``Authorization`` header.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.script: list[Any] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.drive: tuple[str, dict[str, str]] = ("", {})
        self.bytes_per_s: int | None = None
        self.sent = 0
        self.needs_login = False
        self.names_version = True
        self.ignores_if_range = False
        self.url = ""

    def ranges(self) -> list[str | None]:
        """Range headers of the requests for files."""
        return [r for _, path, r in self.asked if urlsplit(path).path in self.content]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.files.asked.append(("GET", self.path, self.headers.get("Range")))
        folder, members = self.files.drive
        wanted = parse_qs(parts.query).get("id", [""])[0]
        if parts.path == "/embeddedfolderview":
            if wanted != folder:
                return self.answer(404, b"no folder")
            links = "".join(
                f'<a href="https://drive.google.com/file/d/{i}/view">{name}</a>' for name, i in members.items()
            )
            return self.answer(200, f"<title>sets</title>{links}".encode(), {"Content-Type": "text/html"})
        if parts.path == "/uc":
            name = {i: name for name, i in members.items()}.get(wanted)
            return self.file(f"/{name}", {"Content-Disposition": f'attachment; filename="{name}"'})
        return self.file(parts.path, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.files.asked.append(("POST", self.path, None))
        if self.files.needs_login and "Authorization" not in self.headers:
            return self.answer(403, b'{"code": 403, "message": "denied"}', {"Content-Type": "application/json"})
        if self.path.endswith("/GetDataset"):
            return self.answer(200, json.dumps({"currentVersionNumber": 7}).encode())
        return self.answer(302, b"", {"Location": f"{self.files.url}/signed.zip?signature=secret"})

    def file(self, path: str, headers: dict[str, str]) -> None:
        behaviour = self.files.script.pop(0) if self.files.script else None
        if isinstance(behaviour, int):
            return self.answer(behaviour, b"trouble", {"Retry-After": "0"} if behaviour == 429 else {})
        if isinstance(behaviour, tuple) and behaviour[0] == "redirect":
            return self.answer(302, b"", {"Location": behaviour[1]})
        content = self.files.content.get(path)
        if content is None:
            return self.answer(404, b"nothing here")
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.files.names_version:
            headers = {**headers, "ETag": tag}
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        status, start = 200, 0
        asked = self.headers.get("Range")
        if asked and behaviour != "whole" and (self.files.ignores_if_range or self.headers.get("If-Range", tag) == tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.answer(416, b"")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if behaviour == "unasked part":
            half = len(content) // 2
            return self.answer(206, content[:half], {"Content-Range": f"bytes 0-{half - 1}/{len(content)}"})
        body = content[start:]
        sent = body[: behaviour[1]] if isinstance(behaviour, tuple) else body
        if behaviour == "drip":
            return self.drip(body, headers)
        self.answer(status, sent, headers, None if behaviour == "length unknown" else len(body))
        if len(sent) < len(body) or behaviour == "length unknown":
            self.close_connection = True
        return None

    def drip(self, body: bytes, headers: dict[str, str]) -> None:
        """Send a body a byte at a time, until the client hangs up."""
        self.answer(200, b"", headers, len(body))
        self.close_connection = True
        pause = threading.Event()
        with suppress(OSError):
            for k in range(len(body)):
                self.wfile.write(body[k : k + 1])
                pause.wait(0.02)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = -1) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **(headers or {})}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        pace = self.files.bytes_per_s
        for k in range(0, len(body), 1 << 16):
            self.wfile.write(body[k : k + (1 << 16)])
            self.files.sent += len(body[k : k + (1 << 16)])
            if pace is not None:
                time.sleep((1 << 16) / pace)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error here."""


@contextmanager
def serve() -> Iterator[Files]:
    """The server, on a free port."""
    files = Files()
    handler = type("Handler", (_Handler,), {"files": files})
    server = _Server(("127.0.0.1", 0), handler)
    files.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
