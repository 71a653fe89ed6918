"""Locate photos over HTTP, with limits on what a client may request.

``POST /invocations`` takes the same requests as ``mlflow models serve`` and gives the same answers. ``GET /`` is a page
to drop photos on, which sends them to ``POST /answers`` and gets answers with pictures. ``GET /ping`` reports that the
server is running, ``GET /openapi.json`` describes its requests, and ``GET /docs`` shows them on a page.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from pydantic import Field, ValidationError, model_validator
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.serving.answers import Answer
from vpr.serving.answers_page import AnswersPage, server_page
from vpr.serving.localizer import MAX_PREDICTIONS, AnswerOptions, Localizer
from vpr.serving.photos import from_base64

HEADERS_S = 10.0  # time for a client to send its request line and headers
MAX_PICTURES = 20  # predictions of a photo that are shown as pictures
MAX_ADDRESSES = 10_000  # addresses to count before those that sent nothing for a minute are forgotten
# The page contains its own style and script, and loads nothing from other servers.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
VALUES_OF_A_PHOTO = 8  # most JSON values that a request may have for each photo


@dataclass(frozen=True)
class Limits:
    """Limits on requests.

    Attributes:
        body_mb: Size of a request, in 10^6 bytes.
        photos: Number of photos in a request.
        megapixels: Size of a photo, in millions of pixels.
        seconds: Longest time from the first byte of the body to the answer; the remaining photos then get an error.
        requests: Number of requests at the same time; further requests get status 503.
        per_minute: Photos per minute from one address, 0 for no limit; further photos get status 429.
        hosts: Names that the server may be asked by, besides its address and those of this machine.
    """

    body_mb: float = 32
    photos: int = 32
    megapixels: float = 50
    seconds: float = 30
    requests: int = 64
    per_minute: int = 0
    hosts: tuple[str, ...] = ()


class RequestParams(Options):
    """The ``params`` of a request."""

    num_predictions: Annotated[int, Field(ge=1, le=MAX_PREDICTIONS)] = 5
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    descriptor: bool = False


class Split(Options):
    """A table in MLflow's ``dataframe_split`` form."""

    columns: Annotated[list[str], Field(min_length=1, max_length=1)]
    data: list[Annotated[list[str], Field(min_length=1, max_length=1)]]
    index: list[int] | None = None


class Record(Options):
    """A row of a table in MLflow's ``dataframe_records`` form."""

    photo: str


class Asked(Options):
    """A request. The photos are in base64, in one of three forms."""

    photos: list[str] | None = None
    dataframe_split: Split | None = None
    dataframe_records: list[Record] | None = None
    params: RequestParams = RequestParams()

    @model_validator(mode="after")
    def _one_form(self) -> Asked:
        forms = (self.photos, self.dataframe_split, self.dataframe_records)
        if sum(form is not None for form in forms) != 1:
            raise ValueError("expected photos, dataframe_split or dataframe_records")
        if self.dataframe_split is not None and self.dataframe_split.columns != ["photo"]:
            raise ValueError("expected the column photo")
        return self

    def encoded(self) -> list[str]:
        """Return the photos in base64."""
        if self.photos is not None:
            return self.photos
        if self.dataframe_split is not None:
            return [photo for (photo,) in self.dataframe_split.data]
        return [record.photo for record in self.dataframe_records or []]


def parsed(body: bytes, most_photos: int) -> Asked:
    """Parse a request.

    Values are counted before they are parsed, because each of millions of small ones takes much more memory than its
    text. Base64 contains none of the signs between values.

    Raises:
        HTTPException: if the request has another form, no photos or too many.
    """
    if sum(body.count(sign) for sign in (b",", b"[", b"{")) > VALUES_OF_A_PHOTO * most_photos + 100:
        raise HTTPException(413, f"too many values in one request; the limit is {most_photos} photos")
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:100]
        raise HTTPException(400, f"{place}: {first['msg']}"[:300].removeprefix(": ")) from None
    number = len(asked.encoded())
    if not number:
        raise HTTPException(400, "no photos in the request")
    if number > most_photos:
        raise HTTPException(413, f"{number} photos; the limit is {most_photos} per request")
    return asked


class Rate:
    """Limits the photos per minute of each address.

    Args:
        per_minute: Number of photos that an address may send; 0 for no limit.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.clock = per_minute, clock
        self.seen: dict[str, deque[float]] = {}

    def wait_s(self, address: str, photos: int = 1) -> int:
        """Return the number of seconds until an address may send this many photos. If it is 0, count the photos."""
        if not self.per_minute:
            return 0
        now = self.clock()
        if len(self.seen) > MAX_ADDRESSES:
            self.seen = {who: times for who, times in self.seen.items() if times and now - times[-1] < 60}
        times = self.seen.setdefault(address, deque(maxlen=self.per_minute))
        recent = [then for then in times if now - then < 60]
        over = len(recent) + photos - self.per_minute  # this many must first be older than a minute
        if over > 0 and recent:
            return max(1, math.ceil(60 - (now - recent[min(over, len(recent)) - 1])))
        times.extend([now] * photos)
        return 0


def make_app(localizer: Localizer, limits: Limits, page: AnswersPage) -> FastAPI:
    """Make the server as an ASGI application.

    Args:
        localizer: Locates the photos, one after the other, because decoded photos are large.
        limits: Limits on requests.
        page: Page to drop photos on.
    """
    one_at_a_time = ThreadPoolExecutor(1)
    rate = Rate(limits.per_minute)

    def answer(body: bytes, deadline: float, address: str, with_pictures: bool) -> list[dict[str, Any]]:
        if time.monotonic() > deadline:
            raise HTTPException(503, "busy; try again later")
        asked = parsed(body, limits.photos)
        photos, params = asked.encoded(), asked.params
        if limits.per_minute and len(photos) > limits.per_minute:
            raise HTTPException(413, f"{len(photos)} photos; the limit is {limits.per_minute} per minute")
        wait_s = rate.wait_s(address, len(photos))
        if wait_s:
            message = f"the limit is {limits.per_minute} photos per minute; try again in {wait_s} s"
            raise HTTPException(429, message, {"Retry-After": str(wait_s)})
        if with_pictures and params.num_predictions > MAX_PICTURES:
            raise HTTPException(
                400, f"num_predictions is {params.num_predictions}; with pictures at most {MAX_PICTURES}"
            )
        options = AnswerOptions(params.num_predictions, params.min_confidence, params.descriptor)
        try:
            answers = localizer.locate_encoded(photos, options, int(limits.megapixels * 10**6), deadline)
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        if with_pictures:
            return [pictured(each, photo, deadline) for each, photo in zip(answers, photos, strict=True)]
        return [each.as_dict() for each in answers]

    def pictured(found: Answer, photo: str, deadline: float) -> dict[str, Any]:
        if found.error:
            return found.as_dict()
        if time.monotonic() > deadline:
            error = f"{found.photo}: no pictures, the time for the request was over"
            return Answer(found.photo, error=error).as_dict()
        return page.with_pictures(found, from_base64(photo, found.photo))

    num_requests = 0

    async def answered(request: Request, with_pictures: bool) -> JSONResponse:
        nonlocal num_requests
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "expected the header Content-Type: application/json")
        if num_requests >= limits.requests:  # connections without a request do not count
            raise HTTPException(503, "busy; try again later")
        num_requests += 1
        try:
            deadline = time.monotonic() + limits.seconds
            try:
                async with asyncio.timeout(limits.seconds):
                    body = await _body(request, int(limits.body_mb * 10**6))
            except TimeoutError:
                raise HTTPException(408, f"the request was incomplete after {limits.seconds:g} s") from None
            loop = asyncio.get_running_loop()
            address = request.client.host if request.client else ""
            found = await loop.run_in_executor(one_at_a_time, answer, body, deadline, address, with_pictures)
            return JSONResponse({"predictions": found})
        finally:
            num_requests -= 1

    async def invocations(request: Request) -> JSONResponse:
        """Locate photos; the answers are those of `vpr localize --format json`."""
        return await answered(request, with_pictures=False)

    async def answers(request: Request) -> JSONResponse:
        """Locate photos; the answers also hold pictures of the photos and of their predictions."""
        return await answered(request, with_pictures=True)

    async def ping() -> JSONResponse:
        """Report that the server is running."""
        return JSONResponse({"status": "up"})

    async def drop_page() -> HTMLResponse:
        return HTMLResponse(page.render([], live=True), headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})

    app = FastAPI(
        title="vpr",
        version=metadata.version("vpr"),
        exception_handlers={HTTPException: _refused, Exception: _failed},
        docs_url=None,  # FastAPI's page loads its scripts from other servers
        redoc_url=None,
        middleware=[Middleware(OwnNamesOnly, names=limits.hosts)],
    )
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": Asked.model_json_schema()}}}}
    app.post("/invocations", openapi_extra=body)(invocations)
    app.get("/ping")(ping)

    async def docs() -> HTMLResponse:
        return HTMLResponse(server_page(app.openapi()), headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})

    app.get("/docs", include_in_schema=False)(docs)
    app.post("/answers", openapi_extra=body)(answers)
    app.get("/", include_in_schema=False)(drop_page)
    return app


class OwnNamesOnly:
    """Refuses requests that a page of another site makes in the browser of someone who can reach this server.

    Such a page has another ``Origin``, or has its own name resolved to the server's address, so that ``Host`` is that
    name. An address in ``Host`` is the server's own, because a browser connects to the address itself.

    Args:
        app: Application to protect.
        names: Names of the server besides ``localhost`` and the machine's own.
    """

    def __init__(self, app: Any, names: Sequence[str] = ()) -> None:
        self.app = app
        self.names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(host):
            message = f"this server is not called {host[:100]!r}; start it with --allow-host to accept that name"
            await JSONResponse({"error": message}, 403)(scope, receive, send)
        elif origin is not None and origin.partition("://")[2].lower() != host.lower():
            message = "requests from pages of other sites are refused"
            await JSONResponse({"error": message}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        name = ""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            ip_address(name)
        except ValueError:  # a name, or nothing that makes sense
            return name in self.names
        return True


async def _body(request: Request, most_bytes: int) -> bytes:
    """Return the body of a request, unless it is too large.

    Part of the rest of an overlong body is read and discarded, because a client that is still sending would not see the
    answer.
    """
    body, num_bytes = bytearray(), 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes <= most_bytes:
            body += part
        elif num_bytes > 4 * most_bytes:
            break
    if num_bytes > most_bytes:
        raise HTTPException(413, f"the limit is {most_bytes / 10**6:g} MB per request")
    return bytes(body)


async def _refused(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "this is a bug in vpr; the server's log has more"}, 500)


class _Protocol(H11Protocol):
    """Closes connections that send no request in time, and connections whose client does not read the answer.

    Attributes:
        life_s: Longest duration of a connection, in seconds.
    """

    life_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADERS_S, self._close_if_idle)
        self.loop.call_later(self.life_s, transport.abort)

    def _close_if_idle(self) -> None:
        if self.cycle is None:  # no complete request has arrived
            self.transport.close()


def protocol(life_s: float) -> type[_Protocol]:
    """Return a protocol whose connections last at most ``life_s`` seconds."""
    return type("Protocol", (_Protocol,), {"life_s": life_s})


def _closing(app: FastAPI) -> Callable[..., Awaitable[None]]:
    """Wrap the application so that each answer has ``Connection: close``."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def send_closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, send_closing)

    return call


def server_config(app: FastAPI, host: str, port: int, limits: Limits, proxy: str | None = None) -> uvicorn.Config:
    """Return the settings of uvicorn for an application of ``make_app``.

    Args:
        app: The application.
        host, port: Address to listen on.
        limits: Limits on requests.
        proxy: Addresses of the proxies, separated by commas, whose ``X-Forwarded-For`` names the client; ``None`` if
            clients connect directly.
    """
    return uvicorn.Config(
        _closing(app),
        host=host,
        port=port,
        # Time to send the headers and to be answered, and as much time again to read the answer.
        http=protocol(HEADERS_S + 2 * limits.seconds),
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy or "",
        lifespan="off",
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
