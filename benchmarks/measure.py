"""Rounds: every peer once in each, in a rotated order, so that noise falls on all alike. A round's ratios are its own."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.workload import AsyncCall, Expect, Peer, Server, SyncCall

_BURST = 20  # calls between two looks at the clock
_CROWD = 128  # from so many callers on, a burst of all of them would outlast a turn
_CROWD_BURST = 5


@dataclass
class Series:
    """What one peer did in each round: calls per second, and CPU seconds of this process per call."""

    name: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu_us(self) -> float:
        return statistics.median(self.cpu) * 1e6


def ratio(one: Series, other: Series) -> float:
    """The median over the rounds of each round's own ratio."""
    return statistics.median(a / b for a, b in zip(one.rates, other.rates, strict=True))


async def measure_async(peers: Sequence[Peer], server: Server, callers: int, rounds: int, seconds: float, expect: Expect) -> list[Series]:
    """Measure asyncio peers with so many concurrent callers, or as many as the peer says."""
    series = [Series(peer.name) for peer in peers]
    sizes = [peer.callers or callers for peer in peers]
    async with AsyncExitStack() as stack:
        calls: list[AsyncCall] = [await stack.enter_async_context(peer.open(server, size)) for peer, size in zip(peers, sizes, strict=True)]
        right = [expect(await call()) for call in calls]
        for call, reply, size in zip(calls, right, sizes, strict=True):
            await _run_async(call, reply, size, seconds / 5)
        for number in range(rounds):
            for index in _rotated(len(peers), number):
                count, wall, cpu = await _run_async(calls[index], right[index], sizes[index], seconds)
                series[index].rates.append(count / wall)
                series[index].cpu.append(cpu / count)
        for call in calls:
            expect(await call())
    return series


def measure_threads(peers: Sequence[Peer], server: Server, threads: int, rounds: int, seconds: float, expect: Expect) -> list[Series]:
    """Measure blocking peers with so many threads."""
    series = [Series(peer.name) for peer in peers]
    with ExitStack() as stack:
        calls: list[SyncCall] = [stack.enter_context(peer.open(server, threads)) for peer in peers]
        right = [expect(call()) for call in calls]
        for call, reply in zip(calls, right, strict=True):
            _run_threads(call, reply, threads, seconds / 5)
        for number in range(rounds):
            for index in _rotated(len(peers), number):
                count, wall, cpu = _run_threads(calls[index], right[index], threads, seconds)
                series[index].rates.append(count / wall)
                series[index].cpu.append(cpu / count)
        for call in calls:
            expect(call())
    return series


def _rotated(size: int, by: int) -> list[int]:
    return [(index + by) % size for index in range(size)]


async def _run_async(call: AsyncCall, right: Any, callers: int, seconds: float) -> tuple[int, float, float]:
    count = 0
    burst = range(_BURST if callers < _CROWD else _CROWD_BURST)
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < until:
            for _ in burst:
                last = await call()
            if last != right:  # not expect(): decoding here would be charged to the raw peers
                raise _wrong(last)
            count += len(burst)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return count, time.perf_counter() - began, time.process_time() - cpu


def _run_threads(call: SyncCall, right: Any, threads: int, seconds: float) -> tuple[int, float, float]:
    counts = [0] * threads
    wrong: list[Any] = []
    barrier = threading.Barrier(threads + 1)
    until = 0.0

    def caller(number: int) -> None:
        barrier.wait()
        while time.perf_counter() < until:
            for _ in range(_BURST):
                last = call()
            if last != right:
                wrong.append(last)
                return
            counts[number] += _BURST

    workers = [threading.Thread(target=caller, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds
    barrier.wait()
    for worker in workers:
        worker.join()
    if wrong:
        raise _wrong(wrong[0])
    return sum(counts), time.perf_counter() - began, time.process_time() - cpu


def _wrong(reply: Any) -> RuntimeError:
    return RuntimeError(f"a peer changed its answer: {str(reply)[:200]}")
