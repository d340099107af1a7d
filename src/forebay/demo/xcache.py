"""The X-Cache header tells the truth: who answered (NEAR, HIT, STALE or MISS), and INVALIDATED only if Redis agreed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Final, Generic, Literal, TypeVar

from ..cache.cache import AsyncCache
from ..errors import ForebayError
from ..keys import Key
from ..operations import Hit, Miss, Operation

__all__ = ["HEADER", "Outcome", "ReadThrough", "invalidated", "note"]

T = TypeVar("T")

Outcome = Literal["NEAR", "HIT", "STALE", "MISS"]
"""This process held it; Redis did; it was past its time; the database was asked."""

HEADER: Final = "X-Cache"
logger: Final = logging.getLogger("forebay.demo")


class _Reader:
    """One request that waits for a key."""

    __slots__ = ("key", "outcome")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.outcome: Outcome = "MISS"


_reader: Final[ContextVar[_Reader | None]] = ContextVar("reader", default=None)


def note(operation: Operation) -> None:
    """Remember how the request of this task was answered: for the bay's ``on_operation``, which runs where things happen."""
    reader = _reader.get()
    if reader is None or not isinstance(operation, Hit | Miss) or operation.key != reader.key:
        return
    if isinstance(operation, Miss):
        reader.outcome = "MISS"
    else:
        reader.outcome = "STALE" if operation.stale else "NEAR" if operation.near else "HIT"


class ReadThrough(Generic[T]):
    """`AsyncCache.get_or_set` that also says how the value was come by. Its bay was made with ``on_operation=note``."""

    def __init__(self, cache: AsyncCache[T]) -> None:
        self._cache = cache

    async def find(self, key: Key, loader: Callable[[], Awaitable[T]], tags: Iterable[str] = ()) -> tuple[T, Outcome]:
        """Return the value of *key*, by *loader* if need be, and who answered."""
        reader = _Reader(key)
        before = _reader.set(reader)
        try:
            value = await self._cache.get_or_set(key, loader, tags=tuple(tags))
        finally:
            _reader.reset(before)
        return value, reader.outcome


async def invalidated(what: str, *removals: Awaitable[object]) -> str:
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
