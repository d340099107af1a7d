"""A private cluster of three masters, and reads spread over all its slots, beside the same reads of one server."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from benchmarks.workload import BODY, AsyncCall, Peer, Server
from forebay import AsyncForebay, EmbeddedServer

MASTERS = 3
SLOTS = 16384
KEYS = 4096
PATIENCE = 30.0


@contextmanager
def cluster() -> Iterator[Server]:
    """Start the masters, give each its share of the slots, and wait until every one of them finds the cluster complete."""
    from redis import Redis

    with ExitStack() as stack:
        nodes = []
        for index in range(MASTERS):
            bus = _free_port()  # the usual one, 10,000 above the port, may be above the last
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            address = stack.enter_context(EmbeddedServer(port=0, options=options)).address()
            client = stack.enter_context(Redis(host=address.host, port=address.port, decode_responses=True))
            first, last = SLOTS * index // MASTERS, SLOTS * (index + 1) // MASTERS - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            nodes.append((Server(address.host, address.port, "redis+cluster"), bus, client))
        for server, bus, _ in nodes[1:]:
            nodes[0][2].execute_command("CLUSTER", "MEET", server.host, server.port, bus)
        limit = time.monotonic() + PATIENCE
        while not all(_complete(client.execute_command("CLUSTER", "INFO")) for _, _, client in nodes):
            if time.monotonic() > limit:
                raise RuntimeError(f"the cluster was not complete within {PATIENCE:g} s")
            time.sleep(0.05)
        yield nodes[0][0]


def _complete(info: str | dict[str, str]) -> bool:
    wanted = {"cluster_state": "ok", "cluster_slots_ok": str(SLOTS), "cluster_known_nodes": str(MASTERS)}
    seen = info if isinstance(info, dict) else dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return all(seen.get(name) == value for name, value in wanted.items())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spread(name: str, elsewhere: Server | None = None) -> Peer:
    """Return a peer that reads key after key, spread over all slots, from the scenario's server or from *elsewhere*."""

    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        async with AsyncForebay((elsewhere or server).url) as bay:
            keys = [f"spread:{number}" for number in range(KEYS)]
            await asyncio.gather(*(bay.execute("SET", key, BODY) for key in keys))
            execute, ring = bay.execute, itertools.cycle(keys)
            yield lambda: execute("GET", next(ring))

    return Peer(name, open_)
