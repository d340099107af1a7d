"""One GET with 64 callers, built up layer by layer from a bare future to `cache.get`; all layers take their turn in one run."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import hiredis

from benchmarks import caches
from benchmarks.clients import FLOOR, FOREBAY, reader
from benchmarks.floor import Floor
from benchmarks.measure import Series, measure_async
from benchmarks.workload import BODY, KEY, AsyncCall, Peer, Server, expect_value
from forebay import AsyncForebay

CALLERS = 64


class PackedFloor(Floor):
    """The floor with commands that were packed before."""

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Queue one packed command."""
        slot = self._loop.create_future()
        self._slots.append(slot)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        return slot


@asynccontextmanager
async def bare_future(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    """No server: futures of one tick are settled in the next, which is what any client on asyncio pays."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[bytes]] = []

    def settle() -> None:
        settled = waiting.copy()
        waiting.clear()
        for future in settled:
            future.set_result(BODY)

    def call() -> asyncio.Future[bytes]:
        future = loop.create_future()
        if not waiting:
            loop.call_soon(settle)
        waiting.append(future)
        return future

    yield call


@asynccontextmanager
async def packed_floor(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    transport, floor = await asyncio.get_running_loop().create_connection(PackedFloor, server.host, server.port)
    await floor.execute("SET", f"packed:{KEY}", BODY)
    yield partial(floor.send, hiredis.pack_command(("GET", f"packed:{KEY}")))  # type: ignore[arg-type]
    transport.close()


@asynccontextmanager
async def port(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    async with AsyncForebay(server.url) as bay:
        await bay.execute("SET", f"port:{KEY}", BODY)
        yield partial(bay.port.execute, "GET", f"port:{KEY}")


LAYERS = {
    "future and wake-up of its task": Peer("future", bare_future),
    "+ socket, parser, one write a tick": Peer("packed floor", packed_floor),
    "+ packing (this is the floor)": reader(FLOOR, BODY),
    "+ forebay's wire and route": Peer("port", port),
    "+ bay.execute": reader(FOREBAY, BODY),
    "cache.get, on the wire and route": caches.GET,
}
BELOW = (None, 0, 1, 2, 3, 3)  # the layer on which each one stands


def layers(server: Server, rounds: int, seconds: float) -> list[str]:
    """Measure the layers; return the lines of a table in microseconds of this process's CPU for each GET."""
    series = asyncio.run(measure_async(list(LAYERS.values()), server, CALLERS, rounds, seconds, expect_value))
    rows = [f"one GET of {len(BODY)} bytes, {CALLERS} callers, microseconds of CPU", f"  {'':38}{'in all':>8}{'adds':>8}"]
    for label, one, below in zip(LAYERS, series, BELOW, strict=True):
        added = "" if below is None else f"{_added(one, series[below]):>8.2f}"
        rows.append(f"  {label:38}{one.cpu_us:>8.2f}{added}")
    return rows


def _added(one: Series, below: Series) -> float:
    """The median over the rounds of each round's own difference."""
    return statistics.median(a - b for a, b in zip(one.cpu, below.cpu, strict=True)) * 1e6
