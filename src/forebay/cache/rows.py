"""The items of a source, a few at a time and never all at once: from what can be iterated, and with asyncio from ``async for`` too."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from ..errors import UsageError

__all__ = ["Rows", "Source", "UnusableSource", "pair_of"]

Source = Iterable[Any] | AsyncIterable[Any]


class UnusableSource(UsageError, TypeError):
    """What `warm` was given does not give keys, or (key, value) pairs, in a way that this colour can read."""


class Rows:
    """Reads a source from its beginning to its end. A sync source is read where the caller runs: with asyncio, on the loop."""

    def __init__(self, source: Source, *, awaits: bool, pairs: bool, check: Callable[[], None]) -> None:
        """Raise `UnusableSource` if *source* cannot be read in this colour. *check* raises where it is to be read no further."""
        self._check = check
        if isinstance(source, Mapping) and pairs:
            source = source.items()
        self._rows: Iterator[Any] | None = None
        self._stream: AsyncIterator[Any] | None = None
        if isinstance(source, AsyncIterable) and (awaits or not isinstance(source, Iterable)):
            if not awaits:
                raise UnusableSource(
                    f"source is an async {type(source).__name__}: a sync cache needs a plain iterable, or use AsyncForebay"
                )
            self._stream = aiter(source)
        elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
            self._rows = iter(source)
        else:
            hint = "; call it, as in warm(users())" if callable(source) else ""
            raise UnusableSource(f"source gives keys, or (key, value) pairs, one after the other; a {type(source).__name__} does not{hint}")

    async def take(self, most: int) -> list[Any]:
        """Return the next items, at most so many; an empty list at the end.

        Raises:
            Exception: whatever the source raised.
        """
        if self._rows is not None:
            return list(islice(self._rows, most))
        taken: list[Any] = []
        assert self._stream is not None  # noqa: S101 - the constructor saw to it
        async for item in self._stream:
            self._check()
            taken.append(item)
            if len(taken) == most:
                break
        return taken

    async def close(self) -> None:
        """Let a generator run its ``finally`` now: it may hold a database's cursor."""
        if inspect.isasyncgen(self._stream):
            await self._stream.aclose()
        elif inspect.isgenerator(self._rows):
            self._rows.close()


def pair_of(item: Any, position: int) -> tuple[Any, Any]:
    """Return *item*, the one at *position*, as key and value.

    Raises:
        UnusableSource: it is no pair.
    """
    if not isinstance(item, str | bytes | Mapping | AbstractSet):
        try:
            key, value = item
        except (TypeError, ValueError):
            pass
        else:
            return key, value
    raise UnusableSource(
        f"item {position} of the source is a {type(item).__name__}, not a (key, value) pair: give pairs, or keys and a loader"
    )
