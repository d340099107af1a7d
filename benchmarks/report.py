"""Plain tables, and beside each target what was seen: met or missed, never left out."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks.measure import Series, ratio

PACKAGES = ("forebay", "hiredis", "msgspec", "redis", "cashews", "aiocache")


@dataclass(frozen=True)
class Target:
    """Forebay is to be at least *least* times as fast as *peer*."""

    peer: str
    least: float


@dataclass(frozen=True)
class Outcome:
    """One target with what was seen."""

    scenario: str
    peer: str
    target: float
    seen: float

    @property
    def met(self) -> bool:
        return self.seen >= self.target


def headline(cpus: int, server: str) -> str:
    """What was measured, and on what."""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"Python {platform.python_version()}, {cpus} CPUs, {server}, loopback TCP\n{packages}"


def table(title: str, series: list[Series], targets: list[Target]) -> tuple[str, list[Outcome]]:
    """Return the table of one scenario, with Forebay's ratio to each peer, and the outcomes of its targets."""
    ours = series[0]
    rows = [f"{title}", f"  {'':22}{'reads/s':>10}{'us/read':>10}{'CPU us':>9}{'forebay is':>13}{'target':>9}"]
    outcomes = []
    for one in series:
        row = f"  {one.name:22}{one.rate:>10,.0f}{1e6 / one.rate:>10.2f}{one.cpu_us:>9.2f}"
        if one is not ours:
            seen = ratio(ours, one)
            row += f"{seen:>12.2f}x"
            for target in targets:
                if target.peer == one.name:
                    outcomes.append(Outcome(title, one.name, target.least, seen))
                    row += f"{target.least:>8g}x  {'met' if outcomes[-1].met else 'MISSED'}"
        rows.append(row)
    return "\n".join(rows), outcomes
