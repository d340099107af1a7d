"""``python -m benchmarks.coherence``: four processes read through their near tiers, and one deletes.

Printed is how long after an acknowledged `delete` each of them still read the old value (all processes share one clock), then the same
with connections cut at random, and how many entries are stale at the end. ``--strict`` adds ``near_strict=True`` and what it costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import mmap
import random
import selectors
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay import AsyncForebay, EmbeddedServer, Forebay

READERS, KEYS = 4, 16
PACE = 0.0002  # seconds between two looks at all keys: no more than this can be missed
SETTLE = 0.003  # seconds after a delete in which nothing else happens: what is late shows
CUT_EVERY = 10
PLACE = struct.Struct("d")
COLOURS = ("asyncio", "threads")


class Board:
    """When each reader last saw each value: a file that all processes have in their memory."""

    def __init__(self, path: str, values: int) -> None:
        self._values = values
        with Path(path).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @staticmethod
    def make(path: str, values: int) -> Board:
        Path(path).write_bytes(bytes(READERS * values * PLACE.size))
        return Board(path, values)

    def saw(self, reader: int, value: int, when: float) -> None:
        PLACE.pack_into(self._memory, (reader * self._values + value) * PLACE.size, when)

    def last(self, reader: int, value: int) -> float:
        seen: float = PLACE.unpack_from(self._memory, (reader * self._values + value) * PLACE.size)[0]
        return seen


# a reader


def options(strict: bool) -> dict[str, Any]:
    return {"type": int, "ttl": "1h", "near": 1000, **({"near_strict": True} if strict else {})}


async def read(url: str, namespace: str, strict: bool, board: Board, number: int) -> None:
    """Look at every key, again and again, until standard input is closed; then say what would be served."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    async with AsyncForebay(url) as bay:
        cache = bay.cache(namespace, **options(strict))
        print("ready", flush=True)
        while not over.is_set():
            for key in range(KEYS):
                value = await cache.get(key)
                if value is not None:
                    board.saw(number, value, time.monotonic())
            await asyncio.sleep(PACE)
        print(json.dumps([[await cache.get(key) for key in range(KEYS)], cache.stats().near_hits, cache.stats().hits]), flush=True)


def read_blocking(url: str, namespace: str, strict: bool, board: Board, number: int) -> None:
    """The same with a thread."""
    with Forebay(url) as bay, selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        cache = bay.cache(namespace, **options(strict))
        print("ready", flush=True)
        while not selector.select(0):
            for key in range(KEYS):
                value = cache.get(key)
                if value is not None:
                    board.saw(number, value, time.monotonic())
            time.sleep(PACE)
        print(json.dumps([[cache.get(key) for key in range(KEYS)], cache.stats().near_hits, cache.stats().hits]), flush=True)


def be_reader(url: str, namespace: str, colour: str, strict: str, path: str, values: str, number: str) -> None:
    logging.getLogger("forebay").setLevel(logging.CRITICAL)  # that connections are cut is known
    arguments = (url, namespace, strict == "strict", Board(path, int(values)), int(number))
    if colour == "threads":
        read_blocking(*arguments)
        return
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())  # epoll would round every pause up to a millisecond
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(read(*arguments))


# the writer


@dataclass
class Found:
    """What one run showed."""

    late: list[float] = field(default_factory=list)  # milliseconds, for each delete and reader
    deletes: list[float] = field(default_factory=list)  # microseconds
    cuts: int = 0
    stale: int = 0
    near: float = 0.0


def start(*arguments: str) -> list[subprocess.Popen[str]]:
    """Start the readers, and wait until they read."""
    command = [sys.executable, "-m", "benchmarks.coherence", "--read", *arguments]
    readers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for number in range(READERS)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    return readers


async def write(url: str, namespace: str, colour: str, count: int, *, strict: bool, cuts: bool) -> Found:
    """Start the readers, delete *count* times, and compare."""
    chance, found = random.Random(11), Found()
    values = KEYS + count
    with tempfile.NamedTemporaryFile() as file:
        board = Board.make(file.name, values)
        async with AsyncForebay(url) as bay:
            cache = bay.cache(namespace, **{**options(strict), "near": None})
            current = {key: key for key in range(KEYS)}
            await cache.set_many(current)
            readers = start(url, namespace, colour, "strict" if strict else "plain", file.name, str(values))
            acknowledged: dict[int, float] = {}
            for key, value in current.items():
                await everyone_saw(board, value, f"key {key}")
            for value in range(KEYS, values):
                key = chance.randrange(KEYS)
                await everyone_saw(board, current[key], "an old value")
                cut = cuts and value % CUT_EVERY == 0
                if cut:
                    found.cuts += 1
                    # before, with, or after the delete, in turn: what the connection would have told is lost with it
                    steps = [cut_one(bay, chance), delete(cache, key, found)]
                    chance.shuffle(steps)
                    done = await asyncio.gather(*steps)
                    acknowledged[current[key]] = max(each for each in done if each is not None)
                else:
                    acknowledged[current[key]] = await delete(cache, key, found)
                await asyncio.sleep(SETTLE)
                await cache.set(key, value)
                current[key] = value
            await asyncio.sleep(0.5)
            for value, when in acknowledged.items():
                found.late += [max(0.0, (board.last(number, value) - when) * 1000) for number in range(READERS)]
            hits = near = 0
            for reader in readers:
                said, _ = await asyncio.to_thread(reader.communicate, "end\n")
                held, near_hits, all_hits = json.loads(said)
                near, hits = near + near_hits, hits + all_hits
                found.stale += sum(value is not None and value != current[key] for key, value in enumerate(held))
            found.near = near / max(hits, 1)
    return found


async def everyone_saw(board: Board, value: int, what: str) -> None:
    """Wait until each reader has read *value* twice: the second time it was near."""
    for number in range(READERS):
        first = None
        deadline = time.monotonic() + 10
        while first is None or board.last(number, value) <= first:
            first = first or board.last(number, value) or None
            assert time.monotonic() < deadline, f"reader {number} does not see {what}"
            await asyncio.sleep(0.0005)


async def delete(cache: Any, key: int, found: Found) -> float:
    """Delete, and return when that was acknowledged."""
    began = time.perf_counter()
    await cache.delete(key)
    when = time.monotonic()
    found.deletes.append((time.perf_counter() - began) * 1e6)
    return when


async def cut_one(bay: AsyncForebay, chance: random.Random) -> None:
    """Kill one of the connections that tell a reader what changed."""
    listed = (await bay.execute("CLIENT", "LIST")).decode().splitlines()
    own = await bay.execute("CLIENT", "ID")
    clients = [dict(part.split("=", 1) for part in line.split(" ") if "=" in part) for line in listed]
    told = [client["id"] for client in clients if "t" in client["flags"] and int(client["id"]) != own]
    await bay.execute("CLIENT", "KILL", "ID", chance.choice(told))


# the table


def quantile(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def coherence(url: str, count: int, *, strict: bool) -> dict[str, dict[str, float]]:
    """Measure every way, print the table, and return its figures."""
    print(f"{READERS} processes read {KEYS} keys near, all of them each {PACE * 1000:g} ms; one process deletes {count} times")
    print("the last read of the old value after the delete was acknowledged, in ms, for each delete and reader")
    heads = f"{'p50':>8}{'p99':>8}{'max':>8}{'none':>8}{'near':>8}{'delete us':>11}{'cuts':>6}{'stale at the end':>18}"
    print(f"  {'':34}{heads}", flush=True)
    record: dict[str, dict[str, float]] = {}
    for each_strict in (False, True) if strict else (False,):
        for cuts in (False, True):
            for colour in COLOURS:
                title = colour + (", strict" if each_strict else "") + (", connections cut" if cuts else "")
                namespace = f"coherence.{len(record)}"
                found = asyncio.run(write(url, namespace, colour, count, strict=each_strict, cuts=cuts))
                late = sorted(found.late)
                row = {
                    "p50_ms": quantile(late, 0.5),
                    "p99_ms": quantile(late, 0.99),
                    "max_ms": late[-1],
                    "none": sum(not each for each in late) / len(late),
                    "near": found.near,
                    "delete_us": statistics.median(found.deletes),
                    "cuts": found.cuts,
                    "stale": found.stale,
                }
                record[title] = row
                shown = "".join(f"{row[name]:>8.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
                shown += "".join(f"{row[name]:>8.1%}" for name in ("none", "near"))
                print(f"  {title:34}{shown}{row['delete_us']:>11,.0f}{found.cuts:>6}{found.stale:>18}", flush=True)
    stale = sum(row["stale"] for row in record.values())
    print(f"stale entries at the end: {stale} {'met' if not stale else 'MISSED'}\n")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coherence", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many deletes in each run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="60 deletes in each run")
    parser.add_argument("--strict", action="store_true", help="also with near_strict=True")
    parser.add_argument("--read", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        be_reader(*options.read)
        return
    with EmbeddedServer(port=0) as server:
        coherence(server.url, 60 if options.quick else options.count, strict=options.strict)


if __name__ == "__main__":
    main()
