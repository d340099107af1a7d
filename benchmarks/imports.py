"""What ``from forebay import AsyncForebay`` costs over asyncio, msgspec and hiredis, each run in a fresh interpreter.

Bytecode is cached, as it is for every installed package: else a PYTHONDONTWRITEBYTECODE in the environment would have this
checkout compiled anew at each run, and the base not.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

_BASE = "import asyncio, msgspec, hiredis"
_PROGRAM = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def import_cost(rounds: int) -> tuple[float, float, float]:
    """Return medians in milliseconds: the base alone, what importing ``AsyncForebay`` adds, and what making the first one adds.

    The last one loads the wire of its colour, which the import leaves for later.
    """
    base, added, made = [], [], []
    with tempfile.TemporaryDirectory() as bytecode:
        for _ in range(rounds + 1):  # the first fills the bytecode cache, and is not counted
            base.append(_time(_PROGRAM.format(_BASE), bytecode))
            added.append(_time(f"{_BASE}; " + _PROGRAM.format("from forebay import AsyncForebay"), bytecode))
            first = _PROGRAM.format("AsyncForebay('redis://localhost')")
            made.append(_time(f"{_BASE}; from forebay import AsyncForebay; {first}", bytecode))
    return statistics.median(base[1:]) * 1000, statistics.median(added[1:]) * 1000, statistics.median(made[1:]) * 1000


def _time(program: str, bytecode: str) -> float:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = bytecode
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout)
