"""Every step of a read against every kind of write, in both orders, both colours, and from another process.

The reader is held before or after a step; the writer is acknowledged meanwhile; whoever reads after that sees nothing older,
also when the reader goes on and stores what it has loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from forebay import AsyncForebay, Forebay
from forebay.colours import complete
from tests.races.gate import Gate
from tests.races.process import Process, invalidate
from tests.server.test_near import until

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "near": {"near": 100},
    "tags": {},
    "tags of the value": {},
    "near tags": {"near": 100},
    "versioned": {"versioned": True},
    "near versioned": {"near": 100, "versioned": True},
    "stale": {"stale_if_error": 60},
}
STEPS = {"miss": ("read", "lease", "load", "fill"), "hit": ("read",), "stale": ("read", "lease", "load", "fill")}
CASES = [
    *((writer, kind, state) for writer in ("delete", "DEL", "clear") for kind in ("plain", "near") for state in ("miss", "hit")),
    *((writer, kind, state) for writer in ("set", "SET") for kind, state in (("plain", "miss"), ("near", "miss"), ("near", "hit"))),
    *((writer, "stale", state) for writer in ("delete", "mark_stale", "DEL") for state in ("miss", "hit", "stale")),
    *(("clear", kind, state) for kind in ("versioned", "near versioned") for state in ("miss", "hit")),
    *(("invalidate_tags", kind, state) for kind in ("tags", "near tags", "tags of the value") for state in ("miss", "hit")),
]
PAIRS = [
    (writer, kind, state, step, side)
    for writer, kind, state in CASES
    for step in (*STEPS[state], *(("versions",) if ("tags" in kind or kind == "versioned") and state == "miss" else ()))
    for side in ("before", "after")
]


def tags_for(kind: str) -> Any:
    if kind == "tags of the value":
        return lambda _value: ["t"]
    return ["t"] if "tags" in kind else []


class Reader:
    """A cache of either colour behind a gate, whose loader reads a database of one value."""

    def __init__(self, bay: Any, kind: str) -> None:
        self.awaits = isinstance(bay, AsyncForebay)
        self.gate = Gate(bay, awaits=self.awaits)
        self.bay = bay
        self.cache = bay.cache("c", ttl=60, **OPTIONS[kind])
        self.tags = tags_for(kind)
        self.database = "old"

    def read(self) -> asyncio.Task[str]:
        """Begin to read through the cache."""
        return asyncio.ensure_future(self.do(lambda: self.cache.get_or_set("k", self._load(), tags=self.tags)))

    async def do(self, call: Callable[[], Any]) -> Any:
        """Make *call* in this colour; threads have one for it."""
        return await call() if self.awaits else await asyncio.to_thread(call)

    def _load(self) -> Callable[[], Any]:
        async def steps() -> str:
            await self.gate.pass_by("load", "before")
            value = self.database
            await self.gate.pass_by("load", "after")
            return value

        return steps if self.awaits else lambda: complete(steps())

    async def listens(self) -> None:
        """Wait until the near tier is told of changes."""

        async def is_near() -> bool:
            before = self.cache.stats().near_hits
            await self.do(lambda: self.cache.get_or_set("warm", lambda: 1))
            return bool(self.cache.stats().near_hits > before)

        await until(is_near)


@pytest.fixture(scope="module")
def process(server: Any) -> Iterator[Process]:
    child = Process(server.url)
    yield child
    child.close()


@pytest.fixture(params=["asyncio", "threads"])
async def open_bay(request: pytest.FixtureRequest, url: str, prefix: str) -> Any:
    if request.param == "asyncio":
        async with AsyncForebay(url, prefix=prefix) as bay:
            yield bay
    else:
        with Forebay(url, prefix=prefix) as bay:
            yield bay


@pytest.mark.parametrize("where", ["the same process", "another process"])
@pytest.mark.parametrize(("writer", "kind", "state", "step", "side"), PAIRS, ids=["-".join(pair).replace(" ", "_") for pair in PAIRS])
async def test_who_reads_after_the_acknowledgement_sees_nothing_older(
    open_bay: Any, process: Process, prefix: str, writer: str, kind: str, state: str, step: str, side: str, where: str
) -> None:
    reader = Reader(open_bay, kind)
    orders: dict[str, Any] = {"prefix": prefix, "options": {name: value for name, value in OPTIONS[kind].items() if name != "near"}}
    foreign = where == "another process"
    if "near" in kind:
        await reader.listens()
    if state != "miss":
        await asyncio.to_thread(process.ask, do="load", value="old", tags=["t"] if "tags" in kind else [], **orders)
    if state == "stale":
        await asyncio.to_thread(process.ask, do="invalidate", writer="mark_stale", **orders)
    hold = reader.gate.hold(step, side)
    first = reader.read()
    await hold.reached()

    reader.database = "new"
    if foreign:
        await asyncio.to_thread(process.ask, do="invalidate", writer=writer, **orders)
        await reader.do(open_bay.ping)  # behind it no push is under way on a connection that reads
    else:
        await reader.do(lambda: invalidate(reader.cache, open_bay, writer, "k", f"{prefix}c:k"))
    assert await asyncio.to_thread(process.ask, do="get", **orders) in (None, "new")
    raw = writer in ("DEL", "SET")  # which the cache has not heard of, whoever sent it
    if (foreign or raw) and not reader.awaits and "near" in kind:  # told on a connection of its own

        async def is_told() -> bool:
            return await reader.do(lambda: reader.cache.get("k")) in (None, "new")

        await until(is_told)
    assert await reader.do(lambda: reader.cache.get("k")) in (None, "new")
    read = reader.gate.passed["read", "after"]
    late = reader.read()
    await reader.gate.until_passed("read", "after", read + 1, or_done=late)  # what is near needs no read
    hold.let_go()

    assert await first in ("old", "new")
    assert await late == "new"
    assert await reader.do(lambda: reader.cache.get("k")) in (None, "new")
    assert await reader.read() == "new"
    assert await asyncio.to_thread(process.ask, do="get", **orders) in (None, "new")
