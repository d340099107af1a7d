"""How far a warming came, kept in Redis: a count of items of which every one is done, and a digest of their keys.

The mark is written after what it covers was stored. So a process that was killed leaves a mark that is true, at most a little
too low; and a source that does not begin with the same keys any more is recognised by the digest.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..keys import Namespace
from ..port.port import Port

__all__ = ["Checkpoint", "Fingerprint", "Mark"]

_SHORTEST: Final = 60.0  # seconds
_LONGEST: Final = 7 * 86400.0


class Mark(Struct, frozen=True):
    """``done``: so many items of the source, from its beginning, are done. ``digest``: of their keys."""

    done: int
    digest: str


class Fingerprint:
    """A digest that grows with each key, and can be looked at in between."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, name: str) -> None:
        """Take in the name of the next key. Names hold no control characters, so that a zero byte can stand between them."""
        self._hash.update(name.encode())
        self._hash.update(b"\0")

    def digest(self) -> str:
        """Return the digest of all names so far."""
        return self._hash.copy().hexdigest()


class Checkpoint:
    """The mark of one warming, under ``<namespace>:#warm:<name>``, where `clear` removes it together with what it vouches for."""

    def __init__(self, port: Port, space: Namespace, name: str, lifetime: float) -> None:
        """Name the mark. It is kept as long as an entry that is stored now (*lifetime*, in seconds), within a minute and a week.

        Later there would be nothing left of what it vouches for.

        Raises:
            InvalidKey: *name* could not be a key.
        """
        self.name = name
        self._port = port
        self._where = f"{space.head}#warm:{space.name(name).removeprefix(space.head)}"
        self._kept = int(min(max(lifetime, _SHORTEST), _LONGEST) * 1000)

    async def load(self) -> Mark | None:
        """Return the mark; None if there is none (or bytes that are not one), so that the warming begins at the beginning.

        Raises:
            Unavailable: the server could not be asked.
        """
        data: Any = await self._port.execute("GET", self._where)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=Mark)
        except msgspec.DecodeError:
            return None

    async def save(self, mark: Mark) -> None:
        """Keep *mark*; everything that it covers is stored.

        Raises:
            Unavailable: the server could not be told.
        """
        await self._port.execute("SET", self._where, msgspec.json.encode(mark), "PX", self._kept, idempotent=True)

    async def remove(self) -> None:
        """Forget the mark: the warming is done, or must begin anew.

        Raises:
            Unavailable: the server could not be told.
        """
        await self._port.execute("UNLINK", self._where, idempotent=True)
