"""A client that does not read its answer holds no connection for ever."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import uvicorn

from vpr.serving.server import protocol

LARGE = bytes(64 << 20)  # more than the buffers on the way


async def large_answer(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": LARGE})


def test_an_answer_that_nobody_reads_is_given_up():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(large_answer, http=protocol(1.0), lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        received = 0
        with socket.create_connection(listening.getsockname()) as deaf:
            deaf.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(2)
            assert not server.server_state.connections
            with suppress(ConnectionResetError):
                while part := deaf.recv(1 << 20):
                    received += len(part)
        server.should_exit = True
        thread.join(10)
    assert 0 < received < len(LARGE)
