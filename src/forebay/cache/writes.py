"""Writes of values and of lifetimes. The last writer wins; a load under way stores nothing over what was written meanwhile."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final, TypeVar, Unpack

from ..durations import Duration
from ..errors import ServerError, Unavailable
from ..keys import Key
from ..port.port import Arg, raise_refusal
from ..port.scripts import Script
from .base import MANY
from .entry import is_placeholder
from .freshness import Freshness, FreshnessOptions, Verdict
from .loading import Load, Tags
from .looking import Seen, State
from .reads import CacheReads

__all__ = ["CacheWrites"]

T = TypeVar("T")

_TIME: Final = struct.Struct(">d")
# Both: KEYS[1]; ARGV[1]: the header that was read; ARGV[2]: fresh_until; ARGV[3]: milliseconds to live, '' for ever.
_SET_TIMES: Final = """
redis.call('SETRANGE', KEYS[1], 17, ARGV[2])
if ARGV[3] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
"""
_SLIDE: Final = Script(f"if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end\n{_SET_TIMES}")
_REPLACE_PLACEHOLDER: Final = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
)


class CacheWrites(CacheReads[T]):
    """`set` and its relatives."""

    async def set(self, key: Key, value: T, *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> None:
        """Store *value* for ``ttl`` (the cache's own by default; ``None`` means for ever). The last writer wins.

        After a change in the database use `delete` instead: a value that was read earlier must not overwrite a newer one.
        With the server away nothing is stored, and that is reported.

        Args:
            tags: see `invalidate_tags`; a list, or a function of the value.
            options: those of `bay.cache`, for this entry.

        Raises:
            InvalidKey: the key or a tag cannot be used.
            InvalidDuration, SettingsError, MissingTTL: an option cannot be used, or there is no ttl.
            EncodeError: the value cannot be stored; nothing was sent.
            Unavailable: only with ``on_outage="raise"``.
        """
        await self._set_all({key: value}, "set", key, tags, options)

    async def set_many(self, mapping: Mapping[Key, T], *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> None:
        """Store every pair of *mapping*, in one round trip; not as one transaction. If one cannot be encoded, nothing is sent.

        Args:
            tags: for all of them; or a function of each value.

        Raises:
            As `set`.
        """
        await self._set_all(mapping, "set_many", list(mapping), tags, options)

    async def add(self, key: Key, value: T, *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> bool:
        """Store *value* only if *key* has no entry, atomically; return whether it was stored.

        Raises:
            InvalidKey, InvalidDuration, MissingTTL, EncodeError: as for `set`.
            Unavailable: the server could not say whether it was stored.
        """
        load, packed = self._packed(key, value, tags, self._options(options))
        data, kept = await self._stored(load, value, packed)
        px: tuple[Arg, ...] = () if kept is None else ("PX", kept)
        names = [load.name.encode()]
        self._port.tracking.changed(names)
        try:
            while True:
                found = await self._execute("SET", load.name, data, "NX", "GET", *px)
                if found is None:
                    return True
                if not is_placeholder(found):
                    seen = await self._judged(found, None, load.name, key, "add")
                    if seen.state is State.LIVE and self._verdict(seen, self._freshness, plainly=True) is Verdict.FRESH:
                        return False
                if await _REPLACE_PLACEHOLDER.run(self._port, [load.name], [found, data, "" if kept is None else kept]):
                    return True
        finally:
            self._port.tracking.changed(names)

    async def expire(self, key: Key, ttl: Duration | None) -> bool:
        """Let *key* be fresh for *ttl* from now (``None``: for ever); return whether there is a fresh entry.

        Raises:
            InvalidKey, InvalidDuration: an argument cannot be used.
            Unavailable: the server could not be asked.
        """
        name = self._space.name(key)
        freshness = self._freshness.having({"ttl": ttl})
        lasting = freshness.ttl_for(UNSET_VALUE, self.namespace)
        self._port.tracking.changed([name.encode()])
        try:
            while True:
                seen = await self._judged(await self._execute("GET", name), None, name, key, "expire")
                if seen.state is not State.LIVE or self._verdict(seen, self._freshness, plainly=True) is not Verdict.FRESH:
                    return False
                if await self._set_times(name, seen, lasting, freshness):
                    return True
        except ServerError as error:
            if isinstance(error, Unavailable):
                raise
            self._look.unusable(error, key, "expire")
            return False
        finally:
            self._port.tracking.changed([name.encode()])

    async def _set_times(self, name: str, seen: Seen, lasting: float, freshness: Freshness) -> bool:
        """Give what was *seen* a new lifetime; False if it has changed meanwhile."""
        px: Arg = "" if lasting == math.inf else int(lasting + freshness.grace)
        if seen.entry is None:
            if px == "":
                replies = await self._port.execute_many([("PERSIST", name), ("EXISTS", name)], idempotent=True)
                raise_refusal(replies)
                return bool(replies[1])
            return bool(await self._execute("PEXPIRE", name, px, idempotent=True))
        until = _TIME.pack(await self._clock.ask() + lasting)
        return bool(await _SLIDE.run(self._port, [name], [seen.entry.header, until, px], idempotent=True))

    def _slide(self, name: str, seen: Seen) -> None:
        """Begin the ttl anew in the background, if less than half of it is left."""
        lasting = self._freshness.ttl_for(seen.value, self.namespace)
        if seen.entry is None or lasting == math.inf or seen.entry.fresh_until - self._clock.now() >= lasting / 2:
            return
        self._port.background(self._slid(name, seen, lasting))

    async def _slid(self, name: str, seen: Seen, lasting: float) -> None:
        try:
            await self._set_times(name, seen, lasting, self._freshness)
        except (Unavailable, ServerError) as error:
            self._write_failed("sliding", name, error)

    async def _set_all(self, mapping: Mapping[Key, T], operation: str, key: object, tags: Tags, options: FreshnessOptions) -> None:
        freshness = self._options(options)
        loads = [self._packed(key, value, tags, freshness) for key, value in mapping.items()]
        names = [load.name.encode() for load, _ in loads]
        self._port.tracking.changed(names)
        try:
            commands: list[tuple[Arg, ...]] = []
            word = "set" if len(loads) <= MANY else "SET"
            for (load, packed), value in zip(loads, mapping.values(), strict=True):
                data, kept = await self._stored(load, value, packed)
                commands.append((word, load.name, data) if kept is None else (word, load.name, data, "PX", kept))
            if len(commands) == 1:
                await self._execute(*commands[0])
            else:
                raise_refusal(await self._port.execute_many(commands))
        except Unavailable as error:
            self._write_failed(operation, key, error)
        finally:
            self._port.tracking.changed(names)

    def _packed(self, key: Key, value: Any, tags: Tags, freshness: Freshness) -> tuple[Load, bytes]:
        load = self._load(self._space.name(key), key, _nothing, tags, freshness)
        return load, self._coding.encode(value, load.name)

    async def _stored(self, load: Load, value: Any, packed: bytes) -> tuple[bytes, int | None]:
        tags = load.tags(value) if callable(load.tags) else load.tags
        names = (*self._spaces, *tags)
        versions = await self._book.record(names, self._loading.kept(load.freshness)) if names else ()
        return await self._loading.store(load, value, packed, versions, 0.0)


UNSET_VALUE: Final = object()


def _nothing() -> None:
    """The loader of a value that is there already."""
