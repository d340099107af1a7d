"""Plain tables, and beside each target what was seen: met or missed, never left out."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks.measure import Series, ratio
from benchmarks.scenarios import Scenario

PACKAGES = ("forebay", "hiredis", "msgspec", "redis", "valkey-glide", "coredis", "cashews", "aiocache", "limits", "throttled-py")


@dataclass(frozen=True)
class Outcome:
    """One target with what was seen."""

    scenario: str
    subject: str
    peer: str
    target: float
    met_from: float
    seen: float

    @property
    def met(self) -> bool:
        return self.seen >= self.met_from

    def __str__(self) -> str:
        return f"{self.target:.3g}x {'met' if self.met else 'MISSED'}"


def headline(cpus: int, server: str) -> str:
    """What was measured, and on what."""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"Python {platform.python_version()}, {cpus} CPUs, {server}, loopback TCP\n{packages}"


def table(scenario: Scenario, series: list[Series]) -> tuple[str, list[Outcome]]:
    """Return the table of one scenario, with each subject's ratio to each peer, and the outcomes of its targets."""
    subjects = {one.name: one for one in series if one.name in scenario.subjects}
    width = max(22, *(len(one.name) for one in series))
    heads = "".join(f"{name + ' is':>{_column(name)}}" for name in subjects)
    rows = [scenario.title, f"  {'':{width}}{'per second':>11}{'us each':>9}{'CPU us':>8}{heads}   target"]
    outcomes: list[Outcome] = []
    for one in series:
        row = f"  {one.name:{width}}{one.rate:>11,.0f}{1e6 / one.rate:>9.2f}{one.cpu_us:>8.2f}"
        seen = {name: ratio(subject, one) for name, subject in subjects.items()}
        row += "".join(f"{'' if name == one.name else f'{seen[name]:.2f}x':>{_column(name)}}" for name in subjects)
        for target in scenario.targets:
            if target.peer == one.name:
                name = target.subject or scenario.subjects[0]
                met_from = target.least if target.met_from is None else target.met_from
                outcomes.append(Outcome(scenario.title, name, one.name, target.least, met_from, seen[name]))
                row += f"   {outcomes[-1]}"
        rows.append(row)
    return "\n".join(rows), outcomes


def _column(subject: str) -> int:
    return len(subject) + 5
