"""A steady pace: turns are handed out one by one, each a fixed time after the one before, and time that nobody used is not made up for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Turns for *rate* things a second, on a monotonic clock; ``None``: at once. Tasks and threads may share it."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Raise `ValueError` if *rate* is not a number above zero."""
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf):
            raise ValueError(f"rate={rate!r} cannot be kept: give how many a second, above zero, or None for no bound")
        self._every = 0.0 if rate is None else 1.0 / rate
        self._clock = clock
        self._lock = threading.Lock()
        self._next = -math.inf

    def turn(self, count: int = 1) -> float:
        """Take *count* turns, and return in how many seconds the first of them begins."""
        if not self._every:
            return 0.0
        with self._lock:
            now = self._clock()
            begins = max(now, self._next)
            self._next = begins + count * self._every
        return begins - now

    def __repr__(self) -> str:
        return f"<Pace {1 / self._every:g}/s>" if self._every else "<Pace unbounded>"
