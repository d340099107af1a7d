"""``python -m benchmarks``: starts a private server, measures every scenario, prints the tables."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path

from benchmarks.imports import import_cost
from benchmarks.measure import Series, measure_async, measure_threads
from benchmarks.peers import ASYNC_PEERS, SYNC_PEERS, Server
from benchmarks.report import Outcome, Target, headline, table
from forebay import EmbeddedServer, Forebay

RAW = "redis-py (raw GET)"
ASYNC_TARGETS = {
    1: [Target(RAW, 1.1)],
    64: [Target("cashews get", 12), Target("aiocache get", 10), Target(RAW, 8), Target("floor (raw GET)", 0.65)],
}
SYNC_TARGETS = {1: [Target(RAW, 1.4)], 32: [Target(RAW, 2.5)]}
IMPORT_TARGET_MS = 25


def main() -> None:
    options = _options()
    outcomes: list[Outcome] = []
    record: dict[str, object] = {}
    with EmbeddedServer(port=0) as embedded:
        server = Server(embedded.address().host, embedded.address().port)
        with Forebay(server.url) as bay:
            info = dict(line.split(":", 1) for line in bay.execute("INFO", "server").decode().splitlines() if ":" in line)
        name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        print(headline(os.cpu_count() or 1, name))
        print(f"medians of {options.rounds} rounds of {options.seconds:g} s; ratios are medians of each round's own ratio\n")
        if "asyncio" in options.only:
            for callers, targets in sorted(ASYNC_TARGETS.items()):
                series = asyncio.run(measure_async(ASYNC_PEERS, server, callers, options.rounds, options.seconds))
                _show(f"asyncio, {callers} concurrent callers", series, targets, outcomes, record)
        if "threads" in options.only:
            for threads, targets in sorted(SYNC_TARGETS.items()):
                series = measure_threads(SYNC_PEERS, server, threads, options.rounds, options.seconds)
                _show(f"threads, {threads} at once", series, targets, outcomes, record)
    if "imports" in options.only:
        base, added, made = import_cost(options.rounds)
        verdict = "met" if added <= IMPORT_TARGET_MS else "MISSED"
        print("import, fresh interpreters")
        print(f"  asyncio, msgspec, hiredis {base:.1f} ms; AsyncForebay adds {added:.1f} ms (at most {IMPORT_TARGET_MS})  {verdict}")
        print(f"  making the first AsyncForebay, which loads its wire: {made:.1f} ms\n")
        record["import"] = {"base_ms": base, "added_ms": added, "first_ms": made}
    missed = [outcome for outcome in outcomes if not outcome.met]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} ratio targets met")
    for outcome in missed:
        print(f"  missed: {outcome.scenario}, {outcome.peer}: {outcome.seen:.2f} of {outcome.target:g}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


def _show(title: str, series: list[Series], targets: list[Target], outcomes: list[Outcome], record: dict[str, object]) -> None:
    text, found = table(title, series, targets)
    print(text + "\n", flush=True)
    outcomes += found
    record[title] = {one.name: {"reads_per_second": one.rates, "cpu_seconds_per_read": one.cpu} for one in series}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Forebay and its peers side by side, on this machine.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which every peer has its turn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.4, help="how long a turn lasts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.15 s: does it run, not how fast")
    parser.add_argument("--only", nargs="+", choices=("asyncio", "threads", "imports"), default=("asyncio", "threads", "imports"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures to FILE")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.15
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above zero")
    return options


if __name__ == "__main__":
    main()
