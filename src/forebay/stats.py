"""What a bay counts, in one snapshot."""

from __future__ import annotations

from msgspec import Struct

from .cache.tally import CacheStats
from .ratelimit.tally import LimitStats
from .wire.stats import WireStats

__all__ = ["Stats"]


class Stats(Struct, frozen=True):
    """A snapshot of a bay: its connections, its caches by namespace, how often each kind of event was reported, its outbox, its limits."""

    wire: WireStats
    caches: dict[str, CacheStats]
    reported: dict[str, int]
    pending_invalidations: int = 0
    limits: dict[str, LimitStats] = {}
