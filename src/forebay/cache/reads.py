"""Plain reads: they answer with what is fresh and there, and never with a load under way. Without the server, with nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar, overload

from msgspec import UNSET, UnsetType

from ..errors import CacheMiss, ServerError, Unavailable
from ..keys import Key
from ..port.port import Reply, raise_refusal
from .base import MANY, SIMPLE, CacheBase
from .freshness import Verdict
from .looking import Look, Seen, State
from .near import Held

__all__ = ["CacheReads"]

T = TypeVar("T")
D = TypeVar("D")


class CacheReads(CacheBase[T]):
    """`get` and its relatives."""

    @overload
    async def get(self, key: Key) -> T | None: ...
    @overload
    async def get(self, key: Key, default: D) -> T | D: ...
    async def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none that is fresh.

        With the server away the answer is *default*, and that is reported (``on_outage="raise"`` raises instead). So it is
        for bytes that cannot be read.

        Raises:
            InvalidKey: the key cannot be used.
            Unavailable: only with ``on_outage="raise"``.
        """
        near = self._held_near  # None also if somebody listens: then all goes the longer way
        if near is not None:
            held = near(f"{self._head}{key}")  # checked below: what is no key is not held
            if held is not None and self._may_use(held) and type(key) in SIMPLE:
                held.seen = True
                self._tally.near_hits += 1
                value = held.value
                return value if value is not UNSET else self._coding.decode(held.data, self._space.name(key))
        name = self._space.name(key)
        if self._plain:  # most caches: a GET and a decoder
            try:
                data = await self._get(name)
            except Unavailable as error:
                data = await self._get_again(error, key, name)
            except ServerError as error:  # such as WRONGTYPE
                self._look.unusable(error, key, "get")
                data = None
            if data is None:
                self._tally.misses += 1
                return default
            try:
                value = self._decode(data)
            except self._failures:
                return await self._got(data, key, name, default)
            self._tally.hits += 1
            return value
        if self._tally.tell is not None:
            held = self._held_told(name, key, "get")
            if held is not None:
                return self._value_of(held, name)
        seen = await self._live(name, key, "get")
        if seen.state is State.LIVE:
            self._tally.hit("get", (key,))
            return seen.value
        self._tally.missed("get", (key,))
        return default

    async def fetch(self, key: Key) -> T:
        """Return the value of *key*, also a stored ``None``.

        Raises:
            CacheMiss: there is no entry (or the server is away, which is reported).
            InvalidKey, Unavailable: as for `get`.
        """
        value = await self.get(key, UNSET)
        if isinstance(value, UnsetType):
            raise CacheMiss(self.namespace, key)
        return value

    async def get_many(self, keys: Iterable[Key]) -> dict[Key, T]:
        """Return those of *keys* that are there, under the keys as given, in one round trip (one per node of a cluster).

        Raises:
            InvalidKey, Unavailable: as for `get`.
        """
        asked = dict.fromkeys(keys)
        found = await self._found(asked, "get_many")
        self._tally.missed("get_many", asked, found)
        return found

    async def _found(self, asked: Collection[Key], operation: str) -> dict[Key, T]:
        """Return those of *asked*, which are all different, that are there, and count them."""
        names = self._space.names(asked)
        if self._plain and 0 < len(names) <= MANY:
            found = await self._get_plainly(asked, names)
            self._tally.hit(operation, found, len(found))
            return found
        wanted = dict(zip(asked, names, strict=True))
        found = {}
        missing: dict[Key, str] = {}
        quiet = self._tally.tell is None
        for key, name in wanted.items():
            held = self._held(name) if quiet else self._held_told(name, key, operation)
            if held is None:
                missing[key] = name
            else:
                found[key] = self._value_of(held, name)
        if missing:
            read = await self._read_many(missing)
            self._tally.hit(operation, read, len(read))
            found |= read
        return {key: found[key] for key in wanted if key in found} if len(missing) < len(wanted) else found

    async def exists(self, key: Key) -> bool:
        """Whether there is a fresh entry for *key*. With the server away the answer is False, and that is reported."""
        name = self._space.name(key)
        return (await self._live(name, key, "exists")).state is State.LIVE

    async def ttl(self, key: Key) -> float | None:
        """Return for how many seconds *key* is fresh: None if there is no entry, ``math.inf`` if it lives for ever."""
        name = self._space.name(key)
        try:
            replies = await self._port.execute_many([("get", name), ("pttl", name)])
            raise_refusal(replies)
            data, left = replies
            seen = await self._judged(data, None, name, key, "ttl")
        except Unavailable as error:
            self._read_failed("ttl", key, error)
            return None
        except ServerError as error:
            self._look.unusable(error, key, "ttl")
            return None
        if seen.state is not State.LIVE or self._verdict(seen, self._freshness, plainly=True) is not Verdict.FRESH:
            return None
        if seen.entry is not None:
            return (seen.entry.fresh_until - self._clock.now()) / 1000
        return math.inf if left == -1 else left / 1000

    async def _get_plainly(self, asked: Collection[Key], names: Sequence[str]) -> dict[Key, T]:
        """Read bare values, which most are, in the shortest way; if there is anything else, all with more care."""
        decode = self._decode
        try:
            replies = await self._execute("mget", *names)
            found = {key: decode(data) for key, data in zip(asked, replies, strict=True) if data is not None}
        except self._unsure:
            found = await self._read_many(dict(zip(asked, names, strict=True)))
        return found

    async def _read_many(self, names: dict[Key, str]) -> dict[Key, T]:
        near = self._near if not self._book.splits else None
        markers = [near.store.begin(name) for name in names.values()] if near is not None else []
        held: dict[str, Held] = {}
        found: dict[Key, T] = {}
        try:
            # asked after the markers are there, as in `_see_and_keep`
            listens = near.broadcast.listening() if near is not None and near.broadcast is not None else None
            began = monotonic()
            lefts: Sequence[Reply] = ()
            mget = "mget" if len(names) <= MANY else "MGET"
            source: object | None = None
            if near is None:
                values = await self._execute(mget, *names.values())
            else:
                asked = [(mget, *names.values()), *(("pttl", name) for name in names.values())]
                told = near.broadcast is None
                (values, *lefts), source = await self._port.track(next(iter(names.values())).encode(), asked, told=told)
                raise_refusal([values])
            tells = source if near is None or near.broadcast is None else listens
            depends = Look.depends_on(values) if not self._look.bare or any(map(_may_be_enveloped, values)) else set()
            current = await self._book.all_current(depends, listens)
            for at, ((key, name), data) in enumerate(zip(names.items(), values, strict=True)):
                seen = await self._taken(data, name, key, "get_many", current)
                if seen is not None:
                    found[key] = seen.value
                    if near is not None and tells is not None and isinstance(lefts[at], int):
                        holding = self._holding(name, seen, tells, lefts[at], began)
                        if holding is not None:
                            held[name] = holding
        except Unavailable as error:
            self._read_failed("get_many", list(names), error)
        except ServerError as error:
            self._look.unusable(error, list(names), "get_many")
        finally:
            if near is not None:
                for marker in markers:
                    near.store.settle(marker, held.get(marker.name))
        return found

    async def _got(self, data: Reply, key: Key, name: str, default: Any) -> Any:
        """Return what *data* is worth for a plain read: it was no bare value."""
        try:
            seen = await self._taken(data, name, key, "get")
        except Unavailable as error:
            self._read_failed("get", key, error)
            seen = None
        except ServerError as error:
            self._look.unusable(error, key, "get")
            seen = None
        if seen is None:
            self._tally.misses += 1
            return default
        self._tally.hits += 1
        return seen.value

    async def _taken(
        self, data: Reply, name: str, key: Key, operation: str, current: Mapping[str, bytes | None] | None = None
    ) -> Seen | None:
        """Judge *data* for a plain read; None if it is no fresh value."""
        if data is None:
            return None
        seen = await self._judged(data, None, name, key, operation, current)
        if seen.state is not State.LIVE or self._verdict(seen, self._freshness, plainly=True) is not Verdict.FRESH:
            return None
        if self._freshness.sliding:
            self._slide(name, seen)
        return seen

    def _held_told(self, name: str, key: Key, operation: str) -> Held | None:
        """Do as `_held`, and tell: for a cache to which somebody listens."""
        held = None if self._near is None else self._near.lookup(name)
        if held is None or not self._may_use(held):
            return None
        held.seen = True
        self._tally.hit_near(operation, key)
        return held

    async def _get_again(self, error: Unavailable, key: Key, name: str) -> bytes | None:
        try:
            return await self._port.again(error, ("get", name))  # type: ignore[no-any-return]
        except Unavailable as final:
            self._read_failed("get", key, final)
            return None


def _may_be_enveloped(data: Reply) -> bool:
    return data is not None and data[:1] < b"\t"
