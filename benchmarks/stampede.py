"""``python -m benchmarks.stampede``: eight processes with 250 callers each want one cold key, whose loader takes 200 ms.

Printed are the loads, and how long after the loader's end the last caller of all was answered. Beside it, in the same run and on
the same server, the pattern of a lock with ``SET NX`` and a retry every 100 ms; and a loader whose process is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time

from forebay import AsyncForebay, EmbeddedServer

PROCESSES, CALLERS, LOADER = 8, 250, 0.2
LEASE = 2.0


async def leased(bay: AsyncForebay, key: str, loads: list[float], seconds: float) -> list[float]:
    """Let all callers of this process read through the cache; return when each was answered."""
    cache = bay.cache("stampede", ttl="1m", lease=LEASE)

    async def loader() -> str:
        print("loading", flush=True)
        await asyncio.sleep(seconds)
        loads.append(time.time())
        return "value"

    async def caller() -> float:
        assert await cache.get_or_set(key, loader) == "value"
        return time.time()

    return await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def locked(bay: AsyncForebay, key: str, loads: list[float], seconds: float) -> list[float]:
    """The same by the pattern that many use."""
    name, lock = f"naive:{key}", f"naive:{key}:lock"

    async def caller() -> float:
        while await bay.execute("GET", name) is None:
            if await bay.execute("SET", lock, "1", "NX", "PX", 10_000) is None:
                await asyncio.sleep(0.1)
                continue
            await asyncio.sleep(seconds)
            loads.append(time.time())
            await bay.execute("SET", name, "value", "PX", 60_000)
            await bay.execute("DEL", lock)
        return time.time()

    return await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def work(url: str) -> None:
    """One process: each line on standard input is a round, each line of output its result."""
    async with AsyncForebay(url) as bay:
        print("ready", flush=True)
        for line in sys.stdin:
            how, key, start, seconds = json.loads(line)
            loads: list[float] = []
            await asyncio.sleep(start - time.time())
            answered = await (leased if how == "leased" else locked)(bay, key, loads, seconds)
            print(json.dumps({"loads": loads, "last": max(answered)}), flush=True)


class Workers:
    """The processes, as one."""

    def __init__(self, url: str, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.stampede", "--work", url]
        environment = {**os.environ, "REDIS_CACHE_BUDGET": "1s"}  # two thousand callers start in one instant on two cores
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        self.processes = [subprocess.Popen(command, **pipes) for _ in range(count)]  # type: ignore[call-overload]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"

    def begin(self, how: str, key: str, seconds: float = LOADER) -> None:
        start = time.time() + 0.3
        for process in self.processes:
            process.stdin.write(json.dumps([how, key, start, seconds]) + "\n")
            process.stdin.flush()

    def results(self) -> tuple[list[float], float]:
        """Return when loads ended, and when the last caller was answered."""
        loads: list[float] = []
        last = 0.0
        for process in self.processes:
            line = process.stdout.readline()
            while line == "loading\n":
                line = process.stdout.readline()
            if line:
                result = json.loads(line)
                loads += result["loads"]
                last = max(last, result["last"])
        return loads, last

    def end(self) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()
            process.stdout.close()


def rounds(workers: Workers, how: str, count: int) -> None:
    """Measure *count* rounds and print them."""
    loads, late = [], []
    for number in range(count):
        workers.begin(how, str(number))
        ended, last = workers.results()
        loads.append(len(ended))
        late.append((last - min(ended)) * 1000)
    name = "forebay, leases" if how == "leased" else "SET NX, sleep 100 ms, retry"
    print(f"{name:<30} loads {max(loads)} at most; last of {PROCESSES * CALLERS} answered after the load: {spread(late)}", flush=True)


def killed(url: str, count: int) -> None:
    """Kill the process that loads, in the middle of it."""
    late = []
    for number in range(count):
        workers = Workers(url, 4)
        workers.begin("leased", f"killed:{number}", 0.5)
        loading = _first_to_load(workers)
        time.sleep(0.25)
        loading.send_signal(signal.SIGKILL)
        began = time.time()
        ended, last = workers.results()
        assert len(ended) == 1, f"{len(ended)} loads"
        late.append((last - began) * 1000)
        workers.end()
    print(f"{'killed while loading':<30} exactly one load more; the last answered after the kill: {spread(late)}")
    print(f"{'':<30} (the lease is {LEASE:g} s, and the load takes 0.5 s)")


def _first_to_load(workers: Workers) -> subprocess.Popen[str]:
    import select

    outputs = {process.stdout: process for process in workers.processes}
    ready, _, _ = select.select(list(outputs), [], [], 10)
    process = outputs[ready[0]]
    assert ready[0].readline() == "loading\n"
    return process


def spread(milliseconds: list[float]) -> str:
    return f"median {statistics.median(milliseconds):.1f} ms, worst {max(milliseconds):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(options.work))
        return
    with EmbeddedServer(port=0) as server:
        workers = Workers(server.url, PROCESSES)
        rounds(workers, "leased", options.rounds)
        rounds(workers, "locked", options.rounds)
        workers.end()
        killed(server.url, max(1, options.rounds // 5))


if __name__ == "__main__":
    main()
