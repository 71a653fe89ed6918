"""``vpr serve``: locate photos over HTTP, for programs and on a page to drop photos on."""

from __future__ import annotations

import argparse
from contextlib import suppress

from vpr.commands.arguments import (
    Commands,
    add_database_photos,
    add_index,
    add_model,
    chosen_model,
    positive,
)
from vpr.commands.locate import database_photos
from vpr.config.errors import UserError


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    one = commands.add("serve", serve, "locate photos over HTTP, and on a page to drop photos on")
    add_model(one)
    add_index(one)
    add_database_photos(one)
    one.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 allows other machines")
    one.add_argument("--port", type=int, default=5001, help="port to listen on; 0 for any free port")
    one.add_argument("--max-body-mb", type=positive(float), default=32, help="largest size of a request, in 10^6 bytes")
    one.add_argument("--max-photos", type=positive(int), default=32, help="largest number of photos in a request")
    one.add_argument(
        "--max-megapixels", type=positive(float), default=50, help="largest size of a photo, in millions of pixels"
    )
    one.add_argument("--max-seconds", type=positive(float), default=30, help="longest time for a request, in seconds")
    one.add_argument(
        "--max-requests", type=positive(int), default=64, help="largest number of requests at the same time"
    )
    one.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name that clients may call this server by"
    )
    one.add_argument(
        "--behind-proxy", metavar="ADDRESS", help="address of a proxy that is trusted to name the client in its headers"
    )
    one.add_argument("--per-minute", type=int, default=0, help="photos per minute from one address; 0 for no limit")


def serve(args: argparse.Namespace) -> int:
    """Answer requests until interrupted."""
    import uvicorn

    from vpr.serving.answers_page import AnswersPage
    from vpr.serving.lance_index import open_index
    from vpr.serving.localizer import Localizer
    from vpr.serving.server import Limits, make_app, server_config

    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; expected 0 to 65535")
    if args.per_minute < 0:
        raise UserError(f"--per-minute is {args.per_minute}; expected 0 or more")
    limits = Limits(
        args.max_body_mb, args.max_photos, args.max_megapixels, args.max_seconds, args.max_requests, args.per_minute,
        (args.host, *args.allow_host),
    )  # fmt: skip
    index = open_index(args.index)
    localizer = Localizer(chosen_model(args), index)
    page = AnswersPage.of("Where was this photo taken?", index, database_photos(index, args.database_photos))
    config = server_config(make_app(localizer, limits, page), args.host, args.port, limits, args.behind_proxy)
    with config.bind_socket() as listening, suppress(KeyboardInterrupt):
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{host}:{listening.getsockname()[1]}"
        print(f"drop photos on {address}/, or POST them to {address}/invocations; stop with Ctrl-C", flush=True)
        uvicorn.Server(config).run(sockets=[listening])
    return 0
