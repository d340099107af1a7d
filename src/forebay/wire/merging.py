"""threads: calls of one script with the same words by several threads at once become one call, if the script takes any number of keys.

It is what `gathering` is on asyncio: a thread that finds every turn taken leaves its record to the next one that has a turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import ServerError
from .combiner import Combiner
from .gatherable import Gatherable
from .resp import Reply

__all__ = ["Merger", "Piece"]

_MOST_KEYS: Final = 256  # in one call


class Piece:
    """One record of a call."""

    __slots__ = ("call", "key_count", "keys", "word_count")

    def __init__(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> None:
        self.call = script, words
        self.keys = keys
        self.key_count = key_count
        self.word_count = word_count


class Merger:
    """Sends pieces through *one* and *many*, which exchange packed commands for replies, refusals as values. See `Combiner`."""

    def __init__(self, one: Callable[[bytes], Reply], many: Callable[[list[bytes]], list[Reply]], turns: int, patience: float) -> None:
        self._one = one
        self._many = many
        self._combiner = Combiner(self._alone, self._together, turns, patience)

    async def send(self, piece: Piece) -> Reply:
        """Return the reply to *piece*.

        Raises:
            ServerError: the whole call was refused.
            Unavailable: see `Combiner.call`.
        """
        reply = self._combiner.call(piece)
        if isinstance(reply, ServerError):
            raise type(reply)(*reply.args)
        return reply

    def _alone(self, piece: Piece) -> Reply:
        reply = self._one(_packed([piece]))
        return reply if isinstance(reply, ServerError) else reply[0]

    def _together(self, pieces: list[Piece]) -> list[Reply]:
        same: dict[tuple[Gatherable, bytes], list[int]] = {}
        for at, piece in enumerate(pieces):
            same.setdefault(piece.call, []).append(at)
        calls: list[list[int]] = []
        for places in same.values():
            size = max(1, _MOST_KEYS // pieces[places[0]].key_count)
            calls += [places[first : first + size] for first in range(0, len(places), size)]
        replies: list[Reply] = [None] * len(pieces)
        commands = [_packed([pieces[at] for at in places]) for places in calls]
        for places, reply in zip(calls, self._many(commands), strict=True):
            for at, own in zip(places, [reply] * len(places) if isinstance(reply, ServerError) else reply, strict=True):
                replies[at] = own
        return replies

    def __repr__(self) -> str:
        return f"<Merger of {self._combiner!r}>"


def _packed(pieces: list[Piece]) -> bytes:
    script, words = pieces[0].call
    return script.packed([piece.keys for piece in pieces], pieces[0].key_count * len(pieces), words, pieces[0].word_count)
