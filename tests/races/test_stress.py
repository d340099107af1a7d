"""Many rounds of random readers and writers on a database that only counts up: no read yields less than was acknowledged before it.

``FOREBAY_ROUNDS`` says how many rounds; ``-s`` shows the summary. Readers are tasks, threads and another process.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from forebay import AsyncForebay, Forebay

ROUNDS = int(os.environ.get("FOREBAY_ROUNDS", "20_000"))
KEYS = 8
KINDS: tuple[dict[str, Any], ...] = ({}, {"versioned": True}, {"stale_if_error": 60})
Turns = queue.SimpleQueue[bool]
FOREIGN = Path(__file__).with_name("foreign_reader.py")


class Database:
    """A counter for each key of each cache. ``acknowledged`` is what every read that begins now must yield at least."""

    def __init__(self) -> None:
        self.rows = [[0] * KEYS for _ in KINDS]
        self.acknowledged = [[0] * KEYS for _ in KINDS]


class Judge:
    """Compares what was read with what had been acknowledged when the read began."""

    def __init__(self) -> None:
        self.reads = 0
        self.violations: list[str] = []

    def judge(self, who: str, kind: int, key: int, value: Any, floor: int) -> None:
        self.reads += 1
        if value is not None and value < floor:
            self.violations.append(f"{who} read {value} of key {key} of cache {kind}, and {floor} had been acknowledged")


async def test_no_read_yields_less_than_was_acknowledged_before_it(url: str, prefix: str) -> None:
    database, judge, totals = Database(), Judge(), Counter[str]()
    foreign = _foreign_reader(url, prefix)
    async with AsyncForebay(url, prefix=prefix) as one, AsyncForebay(url, prefix=prefix) as two:
        with Forebay(url, prefix=prefix) as blocking:
            caches = {
                bay: [bay.cache(f"c{number}", ttl=60, **options) for number, options in enumerate(KINDS)] for bay in (one, two, blocking)
            }
            turns = Turns()
            threads = [threading.Thread(target=_read_on, args=(caches[blocking], database, judge, turns, seed)) for seed in range(2)]
            for thread in threads:
                thread.start()
            try:
                await asyncio.gather(*(_rounds(one, caches, database, judge, turns, foreign, seed) for seed in range(KEYS)))
            finally:
                for _ in threads:
                    turns.put(False)
                for thread in threads:
                    await asyncio.to_thread(thread.join)
            for cache in (cache for each in caches.values() for cache in each):
                stats = cache.stats()
                totals.update(hits=stats.hits, loads=stats.loads, refused=stats.refused_fills, errors=stats.errors)
            said, _ = await asyncio.to_thread(foreign.communicate, "")
    theirs = int(said)
    print(
        f"\n{ROUNDS} rounds, {judge.reads} reads here and {theirs} in another process, {totals['hits']} hits, {totals['loads']} loads, "
        f"{totals['refused']} refused fills, {len(judge.violations)} violations"
    )
    assert judge.violations == []
    assert foreign.returncode == 0
    assert totals["errors"] == 0
    assert min(totals["hits"], totals["loads"], totals["refused"], theirs) > ROUNDS / 200


def _foreign_reader(url: str, prefix: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(FOREIGN), url, prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _rounds(
    writer: AsyncForebay,
    caches: dict[Any, list[Any]],
    database: Database,
    judge: Judge,
    turns: Turns,
    foreign: subprocess.Popen[str],
    seed: int,
) -> None:
    """Each round: a few readers in a random order around one write, and a read of everybody after its acknowledgement."""
    draw = random.Random(seed)
    key = seed  # the only writer of this key: what it has acknowledged is known
    asyncs = [each for bay, each in caches.items() if isinstance(bay, AsyncForebay)]
    assert foreign.stdin is not None
    for number in range(ROUNDS // KEYS):
        kind, written = draw.randrange(len(KINDS)), asyncio.Event()
        if number % 8 == 0:
            turns.put(True)
        if number % 32 == 0:
            foreign.stdin.write("\n")
            foreign.stdin.flush()
        readers = [
            asyncio.ensure_future(_read(draw.choice(asyncs), kind, key, database, judge, draw, written))
            for _ in range(draw.randrange(1, 4))
        ]
        for _ in range(draw.randrange(6)):
            await asyncio.sleep(0)
        database.rows[kind][key] += 1
        value = database.rows[kind][key]
        await _invalidate(writer, draw.choice(asyncs)[kind], kind, key, draw)
        database.acknowledged[kind][key] = value
        written.set()
        readers.append(asyncio.ensure_future(_read(draw.choice(asyncs), kind, key, database, judge, draw, written)))
        await asyncio.gather(*readers)


async def _invalidate(bay: AsyncForebay, cache: Any, number: int, key: int, draw: random.Random) -> None:
    way = draw.randrange(3)
    if way == 0:
        await cache.delete(key)
    elif way == 1:
        await cache.invalidate_tags(f"t{key}")
    elif number == 2:
        await cache.mark_stale(key)
    else:
        await bay.execute("DEL", f"{bay.prefix}c{number}:{key}")


def _loader(kind: int, key: int, database: Database, pause: int, written: asyncio.Event) -> Any:
    async def load() -> int:
        value = database.rows[kind][key]
        if pause > 5:  # held until the write is acknowledged
            await written.wait()
        for _ in range(pause):
            await asyncio.sleep(0)
        return value

    return load


async def _read(
    caches: list[Any], kind: int, key: int, database: Database, judge: Judge, draw: random.Random, written: asyncio.Event
) -> None:
    cache, floor = caches[kind], database.acknowledged[kind][key]
    load = _loader(kind, key, database, draw.randrange(8), written)
    way = draw.randrange(5)
    if way == 0:
        value = await cache.get(key)
    elif way == 1:
        value = (await cache.get_many([key])).get(key)
    elif way == 2:

        async def many(_keys: list[Any]) -> dict[Any, int]:
            return {key: await load()}

        value = (await cache.get_or_set_many([key], many, tags=[f"t{key}"]))[key]
    else:
        tags = [f"t{key}"] if way == 3 else lambda _value: [f"t{key}"]
        value = await cache.get_or_set(key, load, tags=tags)
    judge.judge(f"a task, in way {way},", kind, key, value, floor)


def _read_on(caches: list[Any], database: Database, judge: Judge, turns: Turns, seed: int) -> None:
    draw = random.Random(seed)
    while turns.get():
        kind, key = draw.randrange(len(KINDS)), draw.randrange(KEYS)
        floor, row = database.acknowledged[kind][key], database.rows[kind]
        value = caches[kind].get_or_set(key, lambda row=row, key=key: row[key], tags=[f"t{key}"])
        judge.judge("a thread", kind, key, value, floor)
