"""asyncio: calls of one script with the same words in one tick become one call, if the script takes any number of keys and answers each.

A script costs the server more to begin than to go on, and a caller more to pack than to be appended. Each caller has a future of its
own; a refusal of the whole is everybody's, each with an error of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from ..errors import ProtocolViolation
from .gatherable import Gatherable
from .resp import Reply

__all__ = ["MOST_GATHERED", "Gathered", "Gathering"]

MOST_GATHERED: Final = 16  # records in one call. What is full leaves at once, and the server is at work while the other callers ask
_MOST_KEYS: Final = 256


class Gathered:
    """What is gathered for one call: a slot of the connection once it is sent."""

    __slots__ = ("_key_count", "_over", "_script", "_word_count", "_words", "futures", "keys")

    def __init__(self, script: Gatherable, key_count: int, words: bytes, word_count: int) -> None:
        self._script = script
        self._words = words
        self._word_count = word_count
        self._key_count = key_count
        self.keys: list[bytes] = []  #: of each record
        self.futures: list[asyncio.Future[Reply]] = []  #: that each record settles
        self._over = False

    def packed(self) -> bytes:
        """Return the call."""
        count = self._key_count * len(self.futures)
        return self._script.packed(self.keys, count, self._words, self._word_count)

    # session.Slot

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self._over or all(future.done() for future in self.futures)

    def set_result(self, result: Reply, /) -> None:
        """Give each caller the reply to their own record."""
        if not isinstance(result, list) or len(result) != len(self.futures):
            self.set_exception(ProtocolViolation("a script answered another number of records than it was asked about"))
            return
        self._over = True
        for future, reply in zip(self.futures, result, strict=True):
            if not future.done():
                future.set_result(reply)

    def set_exception(self, exception: BaseException, /) -> None:
        """Fail each caller, with an error of their own."""
        self._over = True
        for future in self.futures:
            if not future.done():
                own = type(exception)(*exception.args)
                own.__cause__ = exception
                future.set_exception(own)


class Gathering:
    """What one connection gathers in one tick."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[Gatherable, bytes], Gathered] = {}

    def add(
        self, script: Gatherable, future: asyncio.Future[Reply], keys: bytes, key_count: int, words: bytes, word_count: int
    ) -> Gathered | None:
        """Take one more record; return the call that it belongs to if that is full, and to be sent."""
        call = script, words
        gathered = self._open.get(call)
        if gathered is None:
            gathered = self._open[call] = Gathered(script, key_count, words, word_count)
        gathered.keys.append(keys)
        futures = gathered.futures
        futures.append(future)
        return self._open.pop(call) if len(futures) >= MOST_GATHERED or len(futures) * key_count >= _MOST_KEYS else None

    def drain(self) -> Iterable[Gathered]:
        """Return what was gathered, to be sent."""
        if not self._open:
            return ()
        gathered, self._open = self._open, {}
        return gathered.values()

    def __len__(self) -> int:
        return len(self._open)
