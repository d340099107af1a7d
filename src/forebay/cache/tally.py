"""What one namespace counts, without a lock: a counter that threads queue for would cost more than what it counts.

Each step is one ``+=`` on a slot, of what needs no call. CPython (3.10 and later, with its interpreter lock) switches threads
at calls and at backward jumps only, so nothing comes between the load and the store; a test with many threads holds it to that.
Whoever listens hears of each step as a record, so that the records of a namespace add up to its counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from msgspec import Struct

from ..operations import REFRESH, FillRefused, Hit, Invalidated, Loaded, LoadFailed, Miss, Operation, Refreshed

__all__ = ["CacheStats", "Tally"]

_READS: Final = (Hit, Miss)


class CacheStats(Struct, frozen=True):
    """A snapshot of one namespace, since the bay was made.

    ``hits`` and ``misses`` count values asked for, each key once in a call (`exists` and `ttl` return none); ``near_hits`` are those
    of the hits that cost no round trip, ``stale`` those past their ttl. What is loaded is a miss, whoever loads it. ``loads`` count
    calls of loaders that returned, ``load_errors`` those that raised or were ended, ``refused_fills`` values that were not stored
    because their key was invalidated or written while they were loaded. ``errors`` count what was reported of the namespace's
    operations: reads and writes that the server could not serve, values that could not be decoded, stale ones returned in place
    of a load, and refreshes that failed.
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
    """Counts for one namespace of a bay, shared by its caches, which step them where the thing happens.

    With ``tell`` every step is to be told as well: then the methods are the only way. Without, the quickest paths step by hand.
    """

    __slots__ = ("errors", "hits", "load_errors", "loads", "misses", "namespace", "near_hits", "refused_fills", "stale", "tell")

    def __init__(self, namespace: str, tell: Callable[[Operation], None] | None = None) -> None:
        self.namespace = namespace
        self.tell = tell
        self.hits = 0  # without those near
        self.misses = 0
        self.near_hits = 0
        self.stale = 0
        self.loads = 0
        self.load_errors = 0
        self.refused_fills = 0
        self.errors = 0

    def hit(self, operation: str, keys: Iterable[object], count: int = 1, *, stale: bool = False) -> None:
        """Count *keys*, so many as *count*, whose values the server had."""
        self.hits += count
        if stale:
            self.stale += count
        if self.tell is not None:
            for key in keys:
                self.tell(Hit(self.namespace, operation, key, stale=stale))

    def hit_near(self, operation: str, key: object) -> None:
        """Count *key*, whose value was near."""
        self.near_hits += 1
        if self.tell is not None:
            self.tell(Hit(self.namespace, operation, key, near=True))

    def missed(self, operation: str, keys: Collection[object], found: Collection[object] = ()) -> None:
        """Count those of *keys* that are not in *found*, which holds no others."""
        count = len(keys) - len(found)
        self.misses += count
        if self.tell is not None and count:
            for key in keys:
                if key not in found:
                    self.tell(Miss(self.namespace, operation, key))

    def loaded(self, operation: str, keys: tuple[object, ...], seconds: float) -> None:
        """Count a call of a loader that returned."""
        self.loads += 1
        if self.tell is not None:
            kind = Refreshed if operation == REFRESH else Loaded
            self.tell(kind(self.namespace, operation, keys, seconds))

    def load_failed(self, operation: str, keys: tuple[object, ...], seconds: float, error: BaseException) -> None:
        """Count a call of a loader that raised."""
        self.load_errors += 1
        if self.tell is not None:
            self.tell(LoadFailed(self.namespace, operation, keys, seconds, error))

    def refused(self, operation: str, key: object) -> None:
        """Count a value that was loaded and may not be stored."""
        self.refused_fills += 1
        if self.tell is not None:
            self.tell(FillRefused(self.namespace, operation, key))

    def invalidated(self, operation: str, target: object, count: int | None) -> None:
        """Tell of an invalidation of *target*, or of all in that list."""
        if self.tell is not None:
            targets = tuple(target) if isinstance(target, list) else (target,)
            self.tell(Invalidated(self.namespace, operation, targets, count))

    def aside(self) -> Tally:
        """Return one for reads that nobody asked for: they are not told, and `take` leaves them out."""
        tell = self.tell
        if tell is None:
            return Tally(self.namespace)
        return Tally(self.namespace, lambda record: None if isinstance(record, _READS) else tell(record))

    def take(self, other: Tally) -> None:
        """Add what *other* counted, save its reads."""
        self.loads += other.loads
        self.load_errors += other.load_errors
        self.refused_fills += other.refused_fills
        self.errors += other.errors

    def stats(self) -> CacheStats:
        """Return a snapshot."""
        counts = {name: getattr(self, name) for name in CacheStats.__struct_fields__}
        counts["hits"] += counts["near_hits"]
        return CacheStats(**counts)
