"""Makes limiters of a bay, and holds what they share: their counts by name, and the connection on which threads are told of changes."""

from __future__ import annotations

from typing import TypeVar

from ..events import Reporter
from ..port.port import Port
from .core import LimiterCore
from .listening import RefusalListener
from .options import LimitOptions, Options
from .policy import Policy
from .rate import RateLike
from .tally import LimitStats, LimitTally

__all__ = ["Limits"]

L = TypeVar("L", bound=LimiterCore)


class Limits:
    """The limiters of one bay. *splits*: the keys are spread over a cluster."""

    def __init__(self, port: Port, prefix: str, reporter: Reporter, *, awaits: bool, splits: bool) -> None:
        self._port = port
        self._prefix = prefix
        self._reporter = reporter
        self._splits = splits
        self._tallies: dict[str, LimitTally] = {}
        # A cluster's nodes would each need a connection of their own: threads ask them for every refusal.
        self._remembers = port.tells and (awaits or not splits)
        self._listener = None if awaits or not self._remembers else RefusalListener(port)

    def make(self, kind: type[L], name: str, rate: RateLike | None, options: LimitOptions) -> L:
        """Return a limiter. Raises as `Options`."""
        read = Options(name, rate, options)
        tally = self._tallies.setdefault(read.name, LimitTally())
        shared = (self._port, self._prefix, self._reporter, tally, read, self._listener)
        return kind(Policy(*shared, remembers=self._remembers, splits=self._splits))

    def stats(self) -> dict[str, LimitStats]:
        """Return the counts of each limiter, by name."""
        return {name: tally.stats() for name, tally in self._tallies.items()}
