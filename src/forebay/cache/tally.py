"""What one namespace counts, without a lock: a counter that threads queue for would cost more than what it counts.

Each step is one ``+=`` on a slot. CPython (3.10 and later, with its interpreter lock) switches threads at calls and at
backward jumps only, so nothing comes between the load and the store; a test with many threads holds it to that.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["CacheStats", "Tally"]


class CacheStats(Struct, frozen=True):
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
    """Counts for one namespace of a bay, shared by its caches."""

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
