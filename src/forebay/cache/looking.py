"""What is found under a name, and what it is worth. Bytes are judged after they were read, versions after the bytes.

Damaged bytes, an unknown version, another type or codec are as good as nothing, and reported; nothing of them is ever raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from msgspec import UNSET, Struct

from ..codecs.coding import Coding
from ..errors import DecodeError, ServerError
from ..events import ReadFailed, Undecodable
from ..port.port import Port
from .entry import Entry, Malformed, is_enveloped, is_placeholder, read_entry
from .versions import VersionBook

__all__ = ["Look", "Seen", "State"]


class State(Enum):
    """What stands under a name."""

    ABSENT = "absent"
    LEASED = "leased"
    """A placeholder: it is being loaded for the first time."""
    LIVE = "live"
    """A value, fresh or not."""
    DEAD = "dead"
    """Something that is worth nothing: an old version, another type, damage."""


class Seen(Struct, frozen=True):
    """A judged reply. ``entry`` is None for bare values; ``value`` is decoded."""

    state: State
    data: bytes | None = None
    entry: Entry | None = None
    value: Any = UNSET
    token: bytes = b""

    @property
    def payload(self) -> bytes:
        """The encoded value of what is alive."""
        return self.entry.payload if self.entry is not None else self.data or b""


NOTHING: Final = Seen(State.ABSENT)


class Look:
    """Judges for one cache. *report* hears of what cannot be read; *required* are versions that each entry must name.

    A *loud* one raises what the server refuses, such as ``NOPERM``.
    """

    def __init__(
        self, port: Port, coding: Coding[Any], book: VersionBook, required: Sequence[str], report: Any, *, loud: bool = False
    ) -> None:
        self._port = port
        self._coding = coding
        self._book = book
        self._required = frozenset(required)
        self._report = report
        self._loud = loud
        self.bare = coding.bare and not required

    async def judge(
        self,
        data: bytes | None,
        source: object | None,
        name: str,
        key: object,
        operation: str,
        current: Mapping[str, bytes | None] | None = None,
        listens: object | None = None,
    ) -> Seen:
        """Say what *data* is worth, which came through *source*; *current* are versions that were asked for after it came.

        *listens* is a broadcast that tells of its versions.

        Raises:
            Unavailable, ServerError: its versions could not be asked for.
        """
        if data is None:
            return NOTHING
        if is_placeholder(data):
            return Seen(State.LEASED, data, token=data[1:])
        if not is_enveloped(data):
            if self.bare:
                return self._decoded(data, None, data, name, key, operation)
            return self._dead(data, "bare JSON, and this cache stores more than that", key, operation)
        try:
            entry = read_entry(data)
        except Malformed as error:
            return self._dead(data, str(error), key, operation)
        if entry.fingerprint != self._coding.fingerprint:
            return self._dead(data, "stored for another type or codec", key, operation)
        if entry.versions or self._required:
            if not self._required <= {name for name, _ in entry.versions}:
                return Seen(State.DEAD, data, entry)
            if current is not None:
                alive = all(current.get(name) == version for name, version in entry.versions)
            else:
                alive = await self._book.current(entry.versions, source, listens)
            if not alive:
                return Seen(State.DEAD, data, entry)
        return self._decoded(entry.payload, entry, data, name, key, operation)

    @staticmethod
    def depends_on(replies: Iterable[bytes | None]) -> set[str]:
        """Return the names of all versions that entries among *replies* depend on."""
        names: set[str] = set()
        for data in replies:
            if data and is_enveloped(data) and not is_placeholder(data):
                try:
                    names.update(name for name, _ in read_entry(data).versions)
                except Malformed:
                    continue  # which `judge` will say
        return names

    def _decoded(self, payload: bytes, entry: Entry | None, data: bytes, name: str, key: object, operation: str) -> Seen:
        try:
            value = self._coding.decode(payload, name)
        except self._coding.failures as error:
            return self._dead(data, self._coding.explain(error), key, operation)
        return Seen(State.LIVE, data, entry, value, entry.token if entry is not None else b"")

    def _dead(self, data: bytes, why: str, key: object, operation: str) -> Seen:
        self._report(Undecodable, DecodeError(f"{len(data)} bytes: {why}"), operation, key)
        return Seen(State.DEAD, data)

    def unusable(self, error: ServerError, key: object, operation: str) -> Seen:
        """Judge a key whose read the server refused: it holds a list, or the account may not read it.

        Raises:
            ServerError: the refusal, if this cache is to be *loud* and it is not the entry's fault.
        """
        if error.code == "WRONGTYPE":
            self._report(Undecodable, error, operation, key)
        elif self._loud:
            raise error
        else:
            self._report(ReadFailed, error, operation, key)
        return Seen(State.DEAD)
