"""What ``from forebay import AsyncForebay`` costs over asyncio, msgspec and hiredis, each run in a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys

_BASE = "import asyncio, msgspec, hiredis"
_PROGRAM = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def import_cost(rounds: int) -> tuple[float, float, float]:
    """Return medians in milliseconds: the base alone, what importing ``AsyncForebay`` adds, and what making the first one adds.

    The last one loads the wire of its colour, which the import leaves for later.
    """
    base, added, made = [], [], []
    for _ in range(rounds + 1):
        base.append(_time(_PROGRAM.format(_BASE)))
        added.append(_time(f"{_BASE}; " + _PROGRAM.format("from forebay import AsyncForebay")))
        made.append(_time(f"{_BASE}; from forebay import AsyncForebay; " + _PROGRAM.format("AsyncForebay('redis://localhost')")))
    return statistics.median(base[1:]) * 1000, statistics.median(added[1:]) * 1000, statistics.median(made[1:]) * 1000


def _time(program: str) -> float:
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
