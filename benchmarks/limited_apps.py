"""``python -m benchmarks.limited_apps``: a session, a limit and a cached read in one request, beside starsessions, slowapi and redis-py.

The applications, their processes and the load are those of `benchmarks.sessions`; the limit is by address and route, and refuses nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from contextlib import ExitStack

from benchmarks.session_apps import LIMITED
from benchmarks.sessions import CONNECTIONS, application, log_in, measure
from forebay import EmbeddedServer

PATH = "/both"
TARGET = 3.5


def limited_apps(rounds: int, seconds: float) -> dict[str, object]:
    """Measure, print, and return every round's figures."""
    print(f"session, limit and cached read under uvicorn, {CONNECTIONS} connections: medians of {rounds} rounds of {seconds:g} s")
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in LIMITED}
    with ExitStack() as running:
        served = {}
        for name in LIMITED:
            server = running.enter_context(EmbeddedServer(port=0))
            served[name] = running.enter_context(application(name, server.url))
        cookies = {name: asyncio.run(log_in(port)) for name, (port, _) in served.items()}
        assert all(cookies.values())
        for number in range(rounds):
            for name in sorted(served, reverse=number % 2 == 1):
                port, process = served[name]
                results[name].append(measure(port, process, PATH, cookies[name], seconds))
    for name, figures in results.items():
        rate, cpu = statistics.median(r for r, _ in figures), statistics.median(c for _, c in figures)
        print(f"  {name:22} {rate:9,.0f} requests/s   {cpu:7.1f} us of CPU each")
    ours, theirs = results.values()
    ratio = statistics.median(a / b for (a, _), (b, _) in zip(ours, theirs, strict=True))
    cheaper = statistics.median(b / a for (_, a), (_, b) in zip(ours, theirs, strict=True))
    verdict = "met" if ratio >= TARGET else "MISSED"
    print(f"  forebay answers {ratio:.2f} times as many (target {TARGET:g}: {verdict}), with {cheaper:.2f} times less CPU each\n")
    return {"limited": results, "ratio": ratio}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--seconds", type=float, default=0.6)
    chosen = options.parse_args()
    limited_apps(chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
