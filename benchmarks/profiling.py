"""``python -m benchmarks --profile``: where the time of one GET goes, by layers and by functions. The layers are what to trust.

The functions come from py-spy, which stops the process for each look; time in C counts for the Python function that called it. Where a
system call is made (`get_running_loop` makes one, too) it is stopped more often than elsewhere, and a thread that waits for a core
counts as at work. Run as a script, this file is the process that is looked at.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import caches
from benchmarks.clients import FLOOR, FOREBAY, reader
from benchmarks.layers import CALLERS, layers
from benchmarks.measure import measure_async
from benchmarks.workload import BODY, Server, expect_value

SUBJECTS = {"forebay get": caches.GET, "forebay execute": reader(FOREBAY, BODY), "floor": reader(FLOOR, BODY)}
SECONDS = 6.0
RATE = 400
SHOWN = 16


def profile(server: Server, rounds: int, seconds: float) -> None:
    """Print the layers, then for each subject the functions in which the time is spent."""
    print("\n".join(layers(server, rounds, seconds)) + "\n", flush=True)
    for name in SUBJECTS:
        print("\n".join(functions(server, name, max(seconds, SECONDS * rounds / 9))) + "\n", flush=True)


def functions(server: Server, name: str, seconds: float) -> list[str]:
    """Return the lines of a table: the functions at the top of the stack, in microseconds for each GET."""
    with tempfile.TemporaryDirectory() as directory:
        stacks, cost = Path(directory, "stacks"), Path(directory, "cost")
        spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--rate", str(RATE), "--format", "raw", "--output", str(stacks)]
        child = [sys.executable, "-m", "benchmarks.profiling", server.host, str(server.port), name, str(seconds), str(cost)]
        done = subprocess.run([*spy, "--", *child], capture_output=True, text=True, check=False)
        if done.returncode or not cost.exists():
            return [f"{name}: py-spy could not look: {(done.stderr or done.stdout).strip()[-300:]}"]
        each = json.loads(cost.read_text())
        return _table(name, _tops(stacks.read_text()), each)


def _tops(stacks: str) -> Counter[str]:
    tops: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        if "_run_once" in frames:  # not what was imported and set up
            tops[_function(frames.rpartition(";")[2])] += int(count)
    return tops


def _function(frame: str) -> str:
    name, _, place = frame.partition(" (")
    parts = Path(place.rpartition(":")[0]).parts
    return f"{'/'.join(parts[-2:])}  {name}"


def _table(name: str, tops: Counter[str], each: float) -> list[str]:
    total = sum(tops.values())
    rows = [f"{name}, {CALLERS} callers: {each:.2f} us of CPU each, {total} samples", f"  {'us':>6}{'share':>8}"]
    rows += [f"  {each * count / total:>6.2f}{count / total:>8.1%}  {where}" for where, count in tops.most_common(SHOWN)]
    return rows


def main(host: str, port: str, name: str, seconds: str, cost: str) -> None:
    """Be the process that is looked at: one subject, one long round."""
    peers = [SUBJECTS[name]]
    series = asyncio.run(measure_async(peers, Server(host, int(port)), CALLERS, 1, float(seconds), expect_value))
    Path(cost).write_text(json.dumps(series[0].cpu_us))


if __name__ == "__main__":
    main(*sys.argv[1:])
