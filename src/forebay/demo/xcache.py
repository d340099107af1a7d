"""The X-Cache header tells the truth: HIT only if Redis answered, MISS if the database did, INVALIDATED only if Redis agreed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Literal, TypeVar

from ..cache.cache import AsyncCache
from ..errors import ForebayError
from ..keys import Key

__all__ = ["HEADER", "ReadThrough", "invalidated"]

T = TypeVar("T")

HEADER: Final = "X-Cache"
logger: Final = logging.getLogger("forebay.demo")


class _Reader:
    """One request that waits for a key."""

    __slots__ = ("loaded",)

    def __init__(self) -> None:
        self.loaded = False


class ReadThrough(Generic[T]):
    """`AsyncCache.get_or_set` that also says how the value was come by.

    Requests that miss together share one load, which one of them leads. None of them was answered by Redis, so a load
    that ends marks every request then waiting for its key, and all say MISS.
    """

    def __init__(self, cache: AsyncCache[T]) -> None:
        self._cache = cache
        self._readers: dict[Key, set[_Reader]] = {}

    async def find(self, key: Key, loader: Callable[[], Awaitable[T]]) -> tuple[T, Literal["HIT", "MISS"]]:
        """Return the value of *key*, by *loader* if need be, and whether it was a HIT or a MISS."""
        reader = _Reader()
        readers = self._readers.setdefault(key, set())
        readers.add(reader)

        async def load() -> T:
            try:
                return await loader()
            finally:
                for waiting in self._readers.get(key, ()):
                    waiting.loaded = True

        try:
            value = await self._cache.get_or_set(key, load)
        finally:
            readers.discard(reader)
            if not readers and self._readers.get(key) is readers:
                del self._readers[key]
        return value, "MISS" if reader.loaded else "HIT"


async def invalidated(what: str, *removals: Awaitable[int]) -> str:
    """Await *removals* from the cache and return the header's value. To be called after the commit.

    The change is already in the database, so nothing that the cache says can turn it into an error; the header says it.
    """
    outcome = "INVALIDATED"
    for removal in removals:
        try:
            await removal
        except ForebayError as error:
            logger.warning("%s changed in the database, but the cache may still hold the old value: %s", what, error)
            outcome = "INVALIDATION-FAILED"
    return outcome
