"""What one namespace counts, without a lock: a counter that threads queue for would cost more than what it counts.

Each step is one ``+=`` on a slot. CPython (3.10 and later, with its interpreter lock) switches threads at calls and at
backward jumps only, so nothing comes between the load and the store; a test with many threads holds it to that.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["CacheStats", "Tally"]


class CacheStats(Struct, frozen=True):
    """A snapshot of one namespace, since the bay was made.

    ``hits`` and ``misses`` count keys asked for, and ``near_hits`` those of the hits that cost no round trip; ``stale`` counts hits
    past their ttl. ``loads`` count loaders that returned, ``load_errors`` those that raised, ``refused_fills`` values that were not
    stored because their key was invalidated while they were loaded. ``errors`` count reads and writes that the server could
    not serve, and values that could not be decoded.
    """

    hits: int
    misses: int
    near_hits: int
    stale: int
    loads: int
    load_errors: int
    refused_fills: int
    errors: int

    @property
    def hit_rate(self) -> float:
        """Hits among all keys asked for, from 0.0 to 1.0; 0.0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class Tally:
    """Counts for one namespace of a bay, shared by its caches, which step them where the thing happens."""

    __slots__ = ("errors", "hits", "load_errors", "loads", "misses", "near_hits", "refused_fills", "stale")

    def __init__(self) -> None:
        self.hits = 0  # without those near
        self.misses = 0
        self.near_hits = 0
        self.stale = 0
        self.loads = 0
        self.load_errors = 0
        self.refused_fills = 0
        self.errors = 0

    def stats(self) -> CacheStats:
        """Return a snapshot."""
        counts = {name: getattr(self, name) for name in CacheStats.__struct_fields__}
        counts["hits"] += counts["near_hits"]
        return CacheStats(**counts)
