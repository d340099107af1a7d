"""Every cache operation, once: coroutines that await their port alone. `AsyncCache` is this class; `Cache` completes it.

The operations stand in the files that are its ancestors: reads, writes, invalidation, loads, bulk.
"""

from __future__ import annotations

from typing import TypeVar

from .warming import CacheWarming

__all__ = ["CacheCore"]

T = TypeVar("T")


class CacheCore(CacheWarming[T]):
    """The operations of one cache."""
