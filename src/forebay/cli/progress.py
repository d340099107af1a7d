"""How a warming is shown: a bar that moves on a terminal, and elsewhere a line now and then, which logs can keep."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..cache.warmup import WarmReport

__all__ = ["Display", "in_words"]

_EVERY: Final = 5.0  # seconds between lines


def in_words(report: WarmReport) -> str:
    """Return the counts of *report* as text."""
    parts = [f"{report.loaded:,} loaded", f"{report.skipped:,} skipped", f"{report.failed:,} failed"]
    if report.resumed:
        parts.append(f"{report.resumed:,} done before")
    return ", ".join(parts)


class Display:
    """``with Display(total) as show: cache.warm(..., on_progress=show)``. Everything goes to stderr; *total* may be unknown."""

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.last: WarmReport | None = None
        self._clock = clock
        self._due = clock() + _EVERY
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                SpinnerColumn(),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("warming", total=total, counts="")

    def __call__(self, report: WarmReport) -> None:
        """Show *report*, and keep it."""
        self.last = report
        if self._bar is not None:
            self._bar.update(self._task, completed=report.handled, counts=in_words(report))
        elif self._clock() >= self._due and not report.done:
            self._due = self._clock() + _EVERY
            print(f"{report.handled:,} through in {report.seconds:.0f} s: {in_words(report)}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
