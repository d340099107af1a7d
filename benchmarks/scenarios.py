"""What is compared with what, by how many callers at once, and what is to come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import blocking, caches
from benchmarks.caches import FOREBAY_GET
from benchmarks.clients import COREDIS, FLOOR, FOREBAY, GLIDE, REDIS_PY, reader, writer
from benchmarks.cluster import MASTERS, spread
from benchmarks.workload import BODY, LARGE, Expect, Peer, Server, expect_large, expect_stored, expect_value

MANY = 64
CROWD = 512
RAW = (FLOOR, REDIS_PY, GLIDE, COREDIS)


@dataclass(frozen=True)
class Target:
    """The subject is to be at least *least* times as fast as *peer*; from *met_from* on, for noise, it counts as met."""

    peer: str
    least: float
    met_from: float | None = None
    subject: str = ""  # the scenario's first


@dataclass(frozen=True)
class Scenario:
    """One table. *subjects* are the rows that all others are compared with; targets hold for the first unless they say so."""

    group: str
    title: str
    callers: int
    peers: Sequence[Peer]
    subjects: Sequence[str]
    targets: Sequence[Target]
    expect: Expect = expect_value
    threads: bool = False


def _reads(callers: int, *targets: Target) -> Scenario:
    raw = [reader(name, BODY) for name in RAW]
    peers = [caches.GET, reader(FOREBAY, BODY), *raw, caches.CASHEWS, caches.AIOCACHE]
    many = f"{callers} concurrent callers" if callers > 1 else "1 caller"
    title = f"reads of {len(BODY)} bytes, asyncio, {many} (forebay get, cashews and aiocache decode)"
    return Scenario("reads", title, callers, peers, (FOREBAY_GET, FOREBAY), targets)


READS_ALONE = _reads(1, Target(REDIS_PY, 1.1), Target("cashews get", 1.4), Target("aiocache get", 1.4))
READS = _reads(
    MANY,
    Target(FLOOR, 0.75),
    Target(REDIS_PY, 8),
    Target(GLIDE, 4),
    Target(COREDIS, 12),
    Target("cashews get", 12),
    Target("aiocache get", 10),
)
READS_CROWDED = Scenario(
    "crowd",
    f"reads of {len(BODY)} bytes, asyncio, {CROWD} concurrent callers",
    CROWD,
    [
        caches.GET,
        reader(FOREBAY, BODY),
        caches.GET_WITH_64,
        reader(FOREBAY, BODY, callers=MANY),
        reader(FLOOR, BODY, callers=MANY),
        *(reader(name, BODY) for name in RAW),
    ],
    (FOREBAY_GET, FOREBAY),
    [Target(caches.GET_WITH_64.name, 1, 0.95), Target(f"{FOREBAY}, {MANY} callers", 1, 0.95, FOREBAY)],
)
WRITES = Scenario(
    "writes",
    f"writes of {len(BODY)} bytes, asyncio, {MANY} concurrent callers (forebay set encodes, all others send bytes)",
    MANY,
    [writer(FOREBAY, BODY), caches.SET, *(writer(name, BODY) for name in RAW)],
    (FOREBAY, caches.FOREBAY_SET),
    [Target(FLOOR, 0.75), Target(GLIDE, 4), Target(COREDIS, 12)],
    expect_stored,
)
LARGE_READS = Scenario(
    "large",
    f"reads of {len(LARGE) // 1024} KiB, asyncio, {MANY} concurrent callers (forebay: at most 1.2 times the floor's time)",
    MANY,
    [reader(name, LARGE) for name in (FOREBAY, *RAW)],
    (FOREBAY,),
    [Target(FLOOR, 1 / 1.2)],
    expect_large,
)


def _many(callers: int) -> Scenario:
    title = f"{len(caches.MANY_KEYS)} keys at once, asyncio, {callers} caller{'s' * (callers > 1)} (each call; all decode)"
    targets = [Target("aiocache multi_get", 5)]
    return Scenario("many", title, callers, caches.MANY, (caches.MANY[0].name,), targets, caches.expect_many)


def _threads(threads: int, least: float) -> Scenario:
    title = f"reads of {len(BODY)} bytes, {threads} thread{'s' * (threads > 1)} at once (forebay get decodes)"
    return Scenario("threads", title, threads, blocking.PEERS, (FOREBAY_GET, FOREBAY), [Target(REDIS_PY, least)], threads=True)


def clustered(server: Server) -> Scenario:
    """Return the scenario for a cluster that is up, and that *server* belongs to."""
    one, many = "forebay, one server", f"forebay, {MASTERS} masters"
    title = f"reads of {len(BODY)} bytes, keys over all slots, asyncio, {MANY} concurrent callers, execute"
    return Scenario("cluster", title, MANY, [spread(many, server), spread(one)], (many,), [Target(one, 0.8)])


SCENARIOS = (READS_ALONE, READS, READS_CROWDED, WRITES, LARGE_READS, _many(1), _many(16), _threads(1, 1.5), _threads(32, 4))
