"""Tests that the server refuses requests from other sites, oversized requests, and clients that never read."""

from __future__ import annotations

import json
import socket
import time
import tracemalloc
from contextlib import suppress

import pytest
import requests
import uvicorn
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from running_server import running
from vpr.serving.answers_page import AnswersPage
from vpr.serving.server import Limits, Rate, make_app, parsed, protocol, server_config

LARGE = bytes(64 << 20)  # more than the buffers on the way


async def large_answer(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": LARGE})


def test_an_answer_that_nobody_reads_is_given_up():
    config = uvicorn.Config(large_answer, http=protocol(1.0), lifespan="off", log_level="error")
    received = 0
    with running(config) as (server, port), socket.create_connection(("127.0.0.1", port)) as deaf:
        deaf.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2)
        assert not server.server_state.connections
        with suppress(ConnectionResetError):
            while part := deaf.recv(1 << 20):
                received += len(part)
    assert 0 < received < len(LARGE)


@pytest.fixture(scope="module")
def client(localizer) -> TestClient:
    limits = Limits(hosts=("maps.example.org",))
    return TestClient(
        make_app(localizer, limits, AnswersPage.of("page", localizer.index, None)), "http://localhost:5001"
    )


ASKED = json.dumps({"photos": ["x"]})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:5001"}, 200),
        ({"Host": "[::1]:5001"}, 200),
        ({"Host": "192.168.1.7:5001"}, 200),
        ({"Host": "Maps.example.org"}, 200),
        ({"Host": "localhost:5001", "Origin": "http://localhost:5001"}, 200),
        ({"Host": "evil.example.org"}, 403),
        ({"Host": "evil.example.org", "Origin": "http://evil.example.org"}, 403),
        ({"Origin": "http://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:5001", "Origin": "http://localhost:8000"}, 403),
        ({"Host": "[["}, 403),
        ({"Host": ""}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
@pytest.mark.parametrize("path", ["/invocations", "/answers"])
def test_only_its_own_names_and_pages_are_answered(client, path, headers, status):
    given = {"Content-Type": "application/json", **headers}
    assert client.post(path, content=ASKED, headers=given).status_code == status


def test_no_site_may_frame_the_pages(client):
    for path in ("/", "/docs"):
        assert "frame-ancestors 'none'" in client.get(path).headers["content-security-policy"]


MEGABYTES = 4
HOSTILE = {
    "numbers": lambda n: b'{"photos":[' + b",".join([b"1"] * (n // 2)) + b"]}",
    "records": lambda n: b'{"dataframe_records":[' + b",".join([b"{}"] * (n // 3)) + b"]}",
    "rows": lambda n: b'{"dataframe_split":{"columns":["photo"],"data":[' + b",".join([b"[]"] * (n // 3)) + b"]}}",
    "index": lambda n: b'{"dataframe_split":{"columns":["photo"],"data":[],"index":[' + b"1," * (n // 2) + b"1]}}",
    "keys": lambda n: b"{" + b",".join(b'"%d":1' % k for k in range(n // 10)) + b"}",
    "nested": lambda n: b'{"photos":' + b"[" * (n // 2) + b"]" * (n // 2) + b"}",
    "one text": lambda n: b'{"photos":["' + b"A" * n + b'"],"x":1}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_memory_of_a_request_is_a_small_multiple_of_its_size(kind):
    body = HOSTILE[kind](MEGABYTES << 20)
    tracemalloc.start()
    with pytest.raises(HTTPException) as refused:
        parsed(body, 32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.status_code in (400, 413)
    assert len(refused.value.detail) <= 300
    assert peak < 3 * len(body)


@pytest.mark.parametrize("form", ["photos", "dataframe_records", "dataframe_split"])
def test_as_many_photos_as_the_limit_pass_in_every_form(form):
    photos = ["QUJD"] * 32
    content = {
        "photos": photos,
        "dataframe_records": [{"photo": photo} for photo in photos],
        "dataframe_split": {"columns": ["photo"], "data": [[photo] for photo in photos], "index": list(range(32))},
    }[form]
    body = json.dumps({form: content, "params": {"num_predictions": 3}}).encode()
    assert parsed(body, 32).encoded() == photos
    with pytest.raises(HTTPException) as refused:
        parsed(body, 31)
    assert (refused.value.status_code, refused.value.detail) == (413, "32 photos; the limit is 31 per request")


def test_requests_without_photos_are_refused_and_leave_the_rate_limit_alone(client):
    answer = client.post("/invocations", json={"photos": []})
    assert (answer.status_code, answer.json()) == (400, {"error": "no photos in the request"})
    rate = Rate(5, clock=lambda: 0.0)
    for address in range(10_002):
        assert rate.wait_s(str(address), 0) == 0
    assert rate.wait_s("one more", 1) == 0


@pytest.mark.parametrize(("proxy", "last"), [(None, 429), ("127.0.0.1", 200), ("10.0.0.1", 429)])
def test_only_a_named_proxy_says_who_asks(localizer, proxy, last):
    limits = Limits(per_minute=1)
    app = make_app(localizer, limits, AnswersPage.of("page", localizer.index, None))
    with running(server_config(app, "127.0.0.1", 0, limits, proxy)) as (_, port):
        address = f"http://127.0.0.1:{port}/invocations"
        codes = [
            requests.post(
                address,
                json={"photos": ["x"]},
                headers={"X-Forwarded-For": client},
                timeout=20,
            ).status_code
            for client in ("192.0.2.1", "192.0.2.2")
        ]
        assert codes == [200, last]
        assert requests.post(address, json={"photos": ["x"] * 2}, timeout=20).status_code == 413
