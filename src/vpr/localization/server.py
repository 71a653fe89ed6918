"""Photos over HTTP -> positions, with a limit on everything that a stranger may ask for.

``POST /invocations`` takes what ``mlflow models serve`` takes, and gives the same answers. ``GET /ping`` says that the
server is up, ``GET /openapi.json`` what it takes and gives, and ``/docs`` shows that. With a page to drop photos on,
``GET /`` is that page, and ``POST /answers`` gives answers with pictures.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI
from pydantic import Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from vpr.config.errors import UserError
from vpr.config.params import Options
from vpr.localization.answers_page import Shown, described
from vpr.localization.localizer import MAX_PREDICTIONS, Localizer, locate_encoded
from vpr.localization.photos import from_base64

HEADERS_S = 10.0  # for a client to say what it wants
MAX_PICTURES = 20  # predictions of a photo that are pictured
MAX_ADDRESSES = 10_000  # whose requests are counted, before those of a minute ago are forgotten
# The page brings its own style and script, and asks no other server for anything.
_ONLY_OURS = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        body_mb: size of a request, in 10^6 bytes.
        photos: in a request.
        megapixels: of a photo.
        seconds: from the first byte of the body to the answer; photos that are not looked at by then get an error.
        requests: at the same time; more are answered 503.
        per_minute: photos of one address; more are answered 429. 0 for no limit.
    """

    body_mb: float = 32
    photos: int = 32
    megapixels: float = 50
    seconds: float = 30
    requests: int = 64
    per_minute: int = 0


class Params(Options):
    """``params`` of a request."""

    num_predictions: Annotated[int, Field(ge=1, le=MAX_PREDICTIONS)] = 5
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    descriptor: bool = False


class Split(Options):
    """A table in MLflow's form."""

    columns: Annotated[list[str], Field(min_length=1, max_length=1)]
    data: list[Annotated[list[str], Field(min_length=1, max_length=1)]]
    index: list[int] | None = None


class Record(Options):
    """A row of a table in MLflow's other form."""

    photo: str


class Asked(Options):
    """A request; photos are in base64, in one of three forms."""

    photos: list[str] | None = None
    dataframe_split: Split | None = None
    dataframe_records: list[Record] | None = None
    params: Params = Params()

    @model_validator(mode="after")
    def _one_form(self) -> Asked:
        forms = (self.photos, self.dataframe_split, self.dataframe_records)
        if sum(form is not None for form in forms) != 1:
            raise ValueError("expected photos, dataframe_split or dataframe_records")
        if self.dataframe_split is not None and self.dataframe_split.columns != ["photo"]:
            raise ValueError("expected the column photo")
        return self

    def encoded(self) -> list[str]:
        """The photos, in base64."""
        if self.photos is not None:
            return self.photos
        if self.dataframe_split is not None:
            return [photo for (photo,) in self.dataframe_split.data]
        return [record.photo for record in self.dataframe_records or []]


class Rate:
    """Counts the photos of each address in the last minute.

    Args:
        per_minute: that an address may send; 0 for any number.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.clock = per_minute, clock
        self.seen: dict[str, deque[float]] = {}

    def wait_s(self, address: str, photos: int = 1) -> int:
        """Seconds until the address may send so many; 0 if it may now, and then they count."""
        if not self.per_minute:
            return 0
        now = self.clock()
        if len(self.seen) > MAX_ADDRESSES:
            self.seen = {who: times for who, times in self.seen.items() if now - times[-1] < 60}
        times = self.seen.setdefault(address, deque(maxlen=self.per_minute))
        recent = [then for then in times if now - then < 60]
        over = len(recent) + photos - self.per_minute  # so many have to be a minute ago
        if over > 0 and recent:
            return max(1, math.ceil(60 - (now - recent[min(over, len(recent)) - 1])))
        times.extend([now] * photos)
        return 0


def make_app(localizer: Localizer, limits: Limits, shown: Shown | None = None) -> FastAPI:
    """The server as an ASGI application; photos are looked at one after the other, as they are large.

    Args:
        shown: what a page to drop photos on shows; ``None`` for no page.
    """
    one_at_a_time = ThreadPoolExecutor(1)
    rate = Rate(limits.per_minute)

    def answer(body: bytes, deadline: float, address: str, with_pictures: bool) -> list[dict[str, Any]]:
        if time.monotonic() > deadline:
            raise HTTPException(503, "busy; try again later")
        try:
            asked = Asked.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])[:100]
            raise HTTPException(400, f"{place}: {first['msg']}"[:300].removeprefix(": ")) from None
        photos, params = asked.encoded(), asked.params
        if len(photos) > limits.photos:
            raise HTTPException(413, f"{len(photos)} photos; the limit is {limits.photos} a request")
        wait_s = rate.wait_s(address, len(photos))
        if wait_s:
            message = f"the limit is {limits.per_minute} photos a minute; try again in {wait_s} s"
            raise HTTPException(429, message, {"Retry-After": str(wait_s)})
        if with_pictures and params.num_predictions > MAX_PICTURES:
            raise HTTPException(
                400, f"num_predictions is {params.num_predictions}; with pictures at most {MAX_PICTURES}"
            )
        max_pixels = int(limits.megapixels * 10**6)
        try:
            answers = locate_encoded(
                localizer,
                photos,
                params.num_predictions,
                params.min_confidence,
                params.descriptor,
                max_pixels,
                deadline,
            )
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        if with_pictures and shown is not None:
            return [pictured(each, photo, deadline) for each, photo in zip(answers, photos, strict=True)]
        return answers

    def pictured(found: dict[str, Any], photo: str, deadline: float) -> dict[str, Any]:
        assert shown is not None, "pictures are for the page"
        if "error" in found:
            return found
        if time.monotonic() > deadline:
            return {
                "photo": found["photo"],
                "error": f"{found['photo']}: no pictures, the time of the request was over",
            }
        return shown.answer(found, from_base64(photo, found["photo"]))

    num_requests = 0

    async def answered(request: Request, with_pictures: bool) -> JSONResponse:
        nonlocal num_requests
        if num_requests >= limits.requests:  # silent connections do not count
            raise HTTPException(503, "busy; try again later")
        num_requests += 1
        try:
            deadline = time.monotonic() + limits.seconds
            try:
                async with asyncio.timeout(limits.seconds):
                    body = await _body(request, int(limits.body_mb * 10**6))
            except TimeoutError:
                raise HTTPException(408, f"the request was not whole after {limits.seconds:g} s") from None
            loop = asyncio.get_running_loop()
            address = request.client.host if request.client else ""
            found = await loop.run_in_executor(one_at_a_time, answer, body, deadline, address, with_pictures)
            return JSONResponse({"predictions": found})
        finally:
            num_requests -= 1

    async def invocations(request: Request) -> JSONResponse:
        """Where the photos were taken: an answer for each, as `vpr localize --json` gives it."""
        return await answered(request, with_pictures=False)

    async def answers(request: Request) -> JSONResponse:
        """The same, with pictures of the photos and of their predictions."""
        return await answered(request, with_pictures=True)

    async def ping() -> JSONResponse:
        """Whether the server is up."""
        return JSONResponse({"status": "up"})

    async def page() -> HTMLResponse:
        assert shown is not None, "there is a route only with it"
        return HTMLResponse(shown.render([], live=True), headers={"Content-Security-Policy": _ONLY_OURS})

    app = FastAPI(
        title="vpr",
        version=metadata.version("vpr"),
        exception_handlers={HTTPException: _refused, Exception: _failed},
        docs_url=None,  # FastAPI's page asks other servers for its scripts
        redoc_url=None,
    )
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": Asked.model_json_schema()}}}}
    app.post("/invocations", openapi_extra=body)(invocations)
    app.get("/ping")(ping)

    async def docs() -> HTMLResponse:
        return HTMLResponse(described(app.openapi()), headers={"Content-Security-Policy": _ONLY_OURS})

    app.get("/docs", include_in_schema=False)(docs)
    if shown is not None:
        app.post("/answers", openapi_extra=body)(answers)
        app.get("/", include_in_schema=False)(page)
    return app


async def _body(request: Request, most_bytes: int) -> bytes:
    """The body of a request, unless it is too large.

    Of one that is too large some more is read and thrown away: a client that is still sending would not see the answer.
    """
    body, num_bytes = bytearray(), 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes <= most_bytes:
            body += part
        elif num_bytes > 4 * most_bytes:
            break
    if num_bytes > most_bytes:
        raise HTTPException(413, f"the limit is {most_bytes / 10**6:g} MB a request")
    return bytes(body)


async def _refused(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "this is a bug in vpr; the server's log has more"}, 500)


class _Protocol(H11Protocol):
    """Closes a connection that asks for nothing after a while, and in the end one whose answer nobody reads.

    Attributes:
        life_s: of a connection.
    """

    life_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADERS_S, self._close_if_idle)
        self.loop.call_later(self.life_s, transport.abort)

    def _close_if_idle(self) -> None:
        if self.cycle is None:  # no whole request has come
            self.transport.close()


def protocol(life_s: float) -> type[_Protocol]:
    """How connections are held, each for at most so long."""
    return type("Protocol", (_Protocol,), {"life_s": life_s})


def _closing(app: FastAPI) -> Callable[..., Awaitable[None]]:
    """The application with ``Connection: close`` in each answer."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def send_closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, send_closing)

    return call


def serve(localizer: Localizer, host: str, port: int, limits: Limits, shown: Shown | None = None) -> None:
    """Answer until interrupted; see ``make_app``."""
    uvicorn.run(
        _closing(make_app(localizer, limits, shown)),
        host=host,
        port=port,
        # To ask, to be answered, and as long again to read the answer.
        http=protocol(HEADERS_S + 2 * limits.seconds),
        lifespan="off",
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
