"""Many clients of `vpr serve` at once, with hostile ones among them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import aiohttp
import psutil
import pytest

from small_model import CALIBRATION, save_small_model
from vpr.data.manifest import DATABASE
from vpr.descriptors.trained_model import Model
from vpr.localization.index_files import IndexFacts
from vpr.serving.index import Index

NUM_CLIENTS, NUM_REQUESTS = 200, 10_000
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def photo(city) -> str:
    image = city.part("val", DATABASE)["image"].iloc[0]
    return base64.b64encode((city.folder / image).read_bytes()).decode()


@pytest.fixture
def served(tmp_path, city) -> Iterator[tuple[psutil.Process, str]]:
    """A process of `vpr serve` with its default limits, and its address."""
    checkpoint = save_small_model(tmp_path / "model.ckpt")
    rows, model = city.part("val", DATABASE), Model(checkpoint, "cpu")
    descriptors = model.describe([city.folder / image for image in rows["image"]])
    Index(descriptors, rows, IndexFacts(model.sha256, "city", "val", 25.0), CALIBRATION).save(tmp_path / "index")
    command = [sys.executable, "-c", "from vpr.commands.main import main; main()", "serve", "--port", "0"]
    command += ["--model", str(checkpoint), "--index", str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        address = next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
        yield psutil.Process(process.pid), address.rstrip("/,;")
        process.terminate()


async def slow_body() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield b" "
        await asyncio.sleep(0.5)


async def all_requests(process: psutil.Process, address: str, photo: str) -> tuple[Counter, Counter, list[float]]:
    """Return the statuses of usual and of hostile requests, and the server's memory in MB, measured all the time."""
    usual: Counter = Counter()
    hostile: Counter = Counter()
    memory_mb: list[float] = []
    body = json.dumps({"photos": [photo]})
    bodies = [b'{"photos":[' + b"1," * 15_000_000 + b"1]}", b"[" * 10_000_000, b"x" * 40_000_000, slow_body]
    left = iter(range(NUM_REQUESTS))

    async def post(session: aiohttp.ClientSession, content) -> int:
        async with session.post(f"{address}/invocations", data=content, headers=JSON) as answer:
            await answer.read()
            return answer.status

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            status = await post(session, body)
            usual[status] += 1
            await asyncio.sleep(1 if status == 503 else 0)

    async def attacker(session: aiohttp.ClientSession) -> None:
        while True:
            for each in bodies:
                try:
                    hostile[await post(session, each() if callable(each) else io.BytesIO(each))] += 1
                except aiohttp.ClientError:  # closed while the body was being sent
                    hostile["closed"] += 1

    async def watch() -> None:
        while True:
            memory_mb.append(process.memory_info().rss / 1e6)
            await asyncio.sleep(0.5)

    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connections, timeout=aiohttp.ClientTimeout(120)) as session:
        others = [asyncio.create_task(each) for each in (attacker(session), attacker(session), watch())]
        await asyncio.gather(*(client(session) for _ in range(NUM_CLIENTS)))
        assert not any(task.done() for task in others)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    return usual, hostile, memory_mb


def test_clients_get_answers_while_others_attack_and_memory_stays_flat(served, photo):
    process, address = served
    usual, hostile, memory_mb = asyncio.run(all_requests(process, address, photo))
    print(usual, hostile, f"memory in MB: {memory_mb[0]:.0f} at the start, {max(memory_mb):.0f} at most")
    assert sum(usual.values()) == NUM_REQUESTS
    assert set(usual) <= {200, 429, 503}
    assert usual[200] > NUM_REQUESTS // 4
    assert sum(hostile.values()) > 10
    assert set(hostile) <= {400, 408, 413, 503, "closed"}
    assert max(memory_mb) - memory_mb[0] < 500
    late = memory_mb[len(memory_mb) // 2 :]
    assert max(late) < max(memory_mb[: len(memory_mb) // 2]) + 100
