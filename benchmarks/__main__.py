"""``python -m benchmarks``: starts a private server, measures every scenario, prints the tables."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path

from benchmarks.cluster import cluster
from benchmarks.coherence import coherence
from benchmarks.imports import import_cost
from benchmarks.limited_apps import limited_apps
from benchmarks.limits import SCENARIOS as LIMITS
from benchmarks.measure import measure_async, measure_threads
from benchmarks.near_policy import REQUESTS, near_policy
from benchmarks.report import Outcome, headline, table
from benchmarks.scenarios import SCENARIOS, Scenario, clustered
from benchmarks.sessions import sessions
from benchmarks.workload import Server
from forebay import EmbeddedServer, Forebay

ALL = (*SCENARIOS, *LIMITS)
GROUPS = (*dict.fromkeys(scenario.group for scenario in ALL), "cluster", "imports", "near", "coherence", "sessions", "limited")
IMPORT_TARGET_MS = 25


def main() -> None:
    options = _options()
    with EmbeddedServer(port=0) as embedded:
        server = Server(embedded.address().host, embedded.address().port)
        if options.profile:
            from benchmarks.profiling import profile

            profile(server, options.rounds, options.seconds)
            return
        with Forebay(server.url) as bay:
            info = dict(line.split(":", 1) for line in bay.execute("INFO", "server").decode().splitlines() if ":" in line)
        name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        print(headline(os.cpu_count() or 1, name))
        print(f"medians of {options.rounds} rounds of {options.seconds:g} s; ratios are medians of each round's own ratio")
        print("CPU is that of this process, all its threads (glide works in one of its own); the server's is not in it\n", flush=True)
        run = Run(options, server)
        for scenario in ALL:
            if scenario.group in options.only:
                run.measure(scenario)
        if "coherence" in options.only:
            run.coherence()
        if "cluster" in options.only:
            with cluster() as masters:
                run.measure(clustered(masters))
    if "imports" in options.only:
        run.imports()
    if "near" in options.only:
        run.near()
    if "sessions" in options.only:
        run.sessions()
    if "limited" in options.only:
        run.limited()
    run.end()


class Run:
    """One run: its scenarios, and what came out of them."""

    def __init__(self, options: argparse.Namespace, server: Server) -> None:
        self._options = options
        self._server = server
        self._outcomes: list[Outcome] = []
        self._record: dict[str, object] = {}

    def measure(self, scenario: Scenario) -> None:
        """Measure one scenario and print its table."""
        rounds, seconds = self._options.rounds, self._options.seconds
        if scenario.threads:
            series = measure_threads(scenario.peers, self._server, scenario.callers, rounds, seconds, scenario.expect)
        else:
            series = asyncio.run(measure_async(scenario.peers, self._server, scenario.callers, rounds, seconds, scenario.expect))
        text, found = table(scenario, series)
        print(text + "\n", flush=True)
        self._outcomes += found
        self._record[scenario.title] = {one.name: {"per_second": one.rates, "cpu_seconds_each": one.cpu} for one in series}

    def imports(self) -> None:
        """Measure what the import costs, and print it."""
        base, added, made = import_cost(self._options.rounds)
        verdict = "met" if added <= IMPORT_TARGET_MS else "MISSED"
        print("import, fresh interpreters")
        print(f"  asyncio, msgspec, hiredis {base:.1f} ms; AsyncForebay adds {added:.1f} ms (at most {IMPORT_TARGET_MS})  {verdict}")
        print(f"  making the first AsyncForebay, which loads its wire: {made:.1f} ms\n")
        self._record["import"] = {"base_ms": base, "added_ms": added, "first_ms": made}

    def near(self) -> None:
        """Measure the near tier's policy beside others, and print it."""
        self._record["near"] = near_policy(self._options.rounds, 20_000 if self._options.quick else REQUESTS)

    def coherence(self) -> None:
        """Measure how long near tiers are behind, and print it."""
        self._record["coherence"] = coherence(self._server.url, 60 if self._options.quick else 1000, strict=True)

    def sessions(self) -> None:
        """Measure sessions behind a server, beside another library's, and print it."""
        self._record["sessions"] = sessions(2 if self._options.quick else 21, 0.3 if self._options.quick else 0.6)

    def limited(self) -> None:
        """Measure a session, a limit and a cached read in one request, beside other libraries', and print it."""
        self._record["limited"] = limited_apps(2 if self._options.quick else 21, 0.3 if self._options.quick else 0.6)

    def end(self) -> None:
        """Say which targets were missed, and write the record."""
        missed = [outcome for outcome in self._outcomes if not outcome.met]
        print(f"{len(self._outcomes) - len(missed)} of {len(self._outcomes)} ratio targets met")
        for outcome in missed:
            print(f"  missed: {outcome.subject} against {outcome.peer}: {outcome.seen:.2f} of {outcome.target:.3g}; {outcome.scenario}")
        if self._options.json:
            self._options.json.write_text(json.dumps(self._record, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Forebay and its peers side by side, on this machine.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which every peer has its turn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.4, help="how long a turn lasts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.15 s: does it run, not how fast")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="WHAT", help=f"any of: {', '.join(GROUPS)}")
    parser.add_argument("--profile", action="store_true", help="instead of comparing: where the time of one GET with 64 callers goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures to FILE")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.15
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above zero")
    return options


if __name__ == "__main__":
    main()
