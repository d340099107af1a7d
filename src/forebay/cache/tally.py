"""What one namespace counts. The threads' tally takes a lock for each step, the event loop's has no need of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CacheStats", "LockedTally", "Tally"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """A snapshot of one namespace, since the bay was made.

    ``hits`` and ``misses`` count keys asked for; ``loads`` count loaders that returned, ``load_errors`` those that raised;
    ``errors`` count reads and writes that the server could not serve, and values that could not be decoded.
    """

    hits: int
    misses: int
    loads: int
    load_errors: int
    errors: int

    @property
    def hit_rate(self) -> float:
        """Hits among all keys asked for, from 0.0 to 1.0; 0.0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class Tally:
    """Counts for one event loop."""

    __slots__ = ("_errors", "_hits", "_load_errors", "_loads", "_misses")

    def __init__(self) -> None:
        self._hits = self._misses = self._loads = self._load_errors = self._errors = 0

    def hit(self, keys: int = 1) -> None:
        """Count keys that were found."""
        self._hits += keys

    def miss(self, keys: int = 1) -> None:
        """Count keys that were not."""
        self._misses += keys

    def load(self) -> None:
        """Count a loader that returned."""
        self._loads += 1

    def load_error(self) -> None:
        """Count a loader that raised."""
        self._load_errors += 1

    def error(self) -> None:
        """Count something that was reported."""
        self._errors += 1

    def stats(self) -> CacheStats:
        """Return a snapshot."""
        return CacheStats(self._hits, self._misses, self._loads, self._load_errors, self._errors)


class LockedTally(Tally):
    """Counts for many threads."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def hit(self, keys: int = 1) -> None:
        with self._lock:
            self._hits += keys

    def miss(self, keys: int = 1) -> None:
        with self._lock:
            self._misses += keys

    def load(self) -> None:
        with self._lock:
            self._loads += 1

    def load_error(self) -> None:
        with self._lock:
            self._load_errors += 1

    def error(self) -> None:
        with self._lock:
            self._errors += 1

    def stats(self) -> CacheStats:
        with self._lock:
            return super().stats()


NewTally = Callable[[], Tally]
