"""Invalidations. Once one is acknowledged, no read that starts after it yields an older value, in any process.

They fail loudly. The near tiers of this process drop what is concerned before the server is told, and again when it has said so.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import InvalidKey
from ..events import CallbackFailed
from ..keys import Key
from ..port.scripts import Script
from .entry import NOBODY
from .writes import CacheWrites

__all__ = ["CacheInvalidation"]

T = TypeVar("T")

_SCAN_COUNT: Final = 500  # names looked at, and removed, in one command: well under a millisecond each
_TIME: Final = struct.Struct(">d")
_SKEW: Final = 1000.0  # milliseconds by which another process may be behind in what it takes for the server's time
_NO: Final = False
# KEYS[1]; ARGV[1]: token, lease_until and fresh_until. What has no stale copy to keep, and a load under way, are deleted.
_MARK_STALE: Final = Script(
    """
local kind = string.byte(redis.call('GETRANGE', KEYS[1], 0, 0))
if not kind then return 0 end
if kind == 1 then
  redis.call('SETRANGE', KEYS[1], 1, ARGV[1])
  return 1
end
redis.call('UNLINK', KEYS[1])
return kind == 2 and 0 or 1
"""
)


class CacheInvalidation(CacheWrites[T]):
    """`delete` and its relatives."""

    async def delete(self, *keys: Key) -> int:
        """Remove *keys*; return how many were there (a load under way counts). What is being loaded will not be stored.

        Raises:
            InvalidKey: a key cannot be used.
            Unavailable: the entries may still be there. It is safe to repeat, and was repeated where that made sense.
        """
        names = [self._space.name(key) for key in keys]
        if not names:
            return 0
        return await self._assurance.run("delete", list(keys), 0, lambda: self._unlink(names))

    async def mark_stale(self, key: Key) -> bool:
        """End the freshness of *key* now, and keep its stale copy for ``stale_while_revalidate`` and ``stale_if_error``.

        A cache without these keeps no stale copies: there it deletes. Returns whether there was an entry.

        Raises:
            InvalidKey: the key cannot be used.
            Unavailable: the entry may still be fresh.
        """
        if not self._freshness.grace:
            return bool(await self.delete(key))
        name = self._space.name(key)
        return await self._assurance.run("mark_stale", key, _NO, lambda: self._end_freshness(name))

    async def invalidate_tags(self, *tags: str) -> None:
        """Let every entry with one of *tags* be no entry any more, however many there are, in one round trip.

        Raises:
            InvalidKey: a tag cannot be used.
            Unavailable: the entries may still be there.
        """
        names = [self._space.tag(tag) for tag in dict.fromkeys(tags)]
        if not names:
            return
        clock = self._space.clock
        # the clock first, also where the keys are on several nodes
        groups = ([clock], names) if self._book.splits else ([clock, *names],)
        await self._assurance.run("invalidate_tags", list(tags), None, lambda: self._book.change(*groups))

    async def delete_matching(self, pattern: str) -> int:
        """Remove the keys that match *pattern* (``*``, ``?``, ``[...]``), in batches; return how many there were.

        Raises:
            InvalidKey: the pattern cannot be used.
            Unavailable: some may still be there.
        """
        match = self._space.pattern(pattern)
        return await self._assurance.run("delete_matching", pattern, 0, lambda: self._sweep(match))

    async def clear(self) -> int:
        """Remove everything in this namespace (also in those nested below it) and nothing else; return how many keys there were.

        With ``versioned=True`` that is one round trip, the memory comes free when the entries' time ends, and the answer is 1.

        Raises:
            Unavailable: entries may still be there.
        """
        return await self._assurance.run("clear", "*", 0, self._clear)

    def on_invalidated(self, callback: Callable[[Key | None], None]) -> Callable[[], None]:
        """Call *callback* with every key of this namespace that changes or ends, by whomever, in any process.

        The key is as it stands in Redis (text); None says that any may have changed: the listener has begun, or was lost and is
        back, a tag or a namespace changed its version, or the database was emptied. It is called on a thread or loop of
        Forebay's own, must be quick, and must not block; what it raises is reported. A forked child registers its own.

        Returns:
            A function that ends the calls.

        Raises:
            InvalidKey: *callback* cannot be called.
            SettingsError: nobody tells of every change over this connection.
        """
        if not callable(callback):
            raise InvalidKey(f"on_invalidated takes a function of the key, not {type(callback).__name__}")
        space = self._space

        def hear(names: list[bytes] | None) -> None:
            texts = [name.decode(errors="replace") for name in names] if names is not None else None
            if texts is None or any(space.is_version(text) for text in texts):
                call(None)
                return
            for text in texts:
                key = space.key_in(text)
                if key is not None:
                    call(key)

        def call(key: Key | None) -> None:
            try:
                callback(key)
            except Exception as error:  # noqa: BLE001 - the listener serves others too
                self._report(CallbackFailed, error, "on_invalidated", key)

        return self._shared.broadcast(space).tell(hear)

    async def _unlink(self, names: list[str]) -> int:
        packed = [name.encode() for name in names]
        self._port.tracking.changed(packed)
        try:
            return int(await self._execute("UNLINK", *names, idempotent=True))
        finally:
            self._port.tracking.changed(packed)

    async def _end_freshness(self, name: str) -> bool:
        names = [name.encode()]
        self._port.tracking.changed(names)
        try:
            past = min(_SKEW, self._freshness.grace / 2)
            ended = NOBODY + _TIME.pack(0.0) + _TIME.pack(await self._clock.ask() - past)
            return bool(await _MARK_STALE.run(self._port, [name], [ended], idempotent=True))
        finally:
            self._port.tracking.changed(names)

    async def _clear(self) -> int:
        if self._versioned:
            await self._book.change([self._spaces[-1]])
            return 1
        return await self._sweep(self._space.everything())

    async def _sweep(self, match: str) -> int:
        removed, cursor = 0, b"0"
        while True:
            cursor, names = await self._execute("SCAN", cursor, "MATCH", match, "COUNT", _SCAN_COUNT)
            if names:
                self._port.tracking.changed(names)
                try:
                    removed += await self._execute("UNLINK", *names, idempotent=True)
                finally:
                    self._port.tracking.changed(names)
            if cursor == b"0":
                # also what is gone on the server already, while the message of that is still on its way to this process
                self._port.tracking.swept(self._space.head.encode())
                return removed
