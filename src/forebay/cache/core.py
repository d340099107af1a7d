"""Every cache operation, once: coroutines that await their port alone. `AsyncCache` is this class; `Cache` completes it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar, overload

from msgspec import UNSET, UnsetType

from ..codecs.codec import codec_for
from ..durations import Duration, to_ms
from ..errors import CacheMiss, DecodeError, MissingTTL, ServerError, Unavailable
from ..events import ReadFailed, Reporter, Undecodable, WriteFailed
from ..keys import Key, Namespace
from ..port.port import Arg, Port, raise_refusal
from .flights import Flights
from .loading import Loading
from .tally import CacheStats, Tally

__all__ = ["CacheCore", "OnOutage"]

T = TypeVar("T")
D = TypeVar("D")

OnOutage = Literal["fallback", "raise"]
_SCAN_COUNT: Final = 1000


class CacheCore(Generic[T]):
    """The operations of one cache: a namespace, a type, a default lifetime."""

    def __init__(
        self,
        port: Port,
        space: Namespace,
        *,
        type: Any,
        ttl: Duration | UnsetType | None,
        on_outage: OnOutage,
        tally: Tally,
        flights: Flights,
        reporter: Reporter,
    ) -> None:
        if on_outage not in ("fallback", "raise"):
            raise ValueError(f"on_outage={on_outage!r} is unknown: use 'fallback' or 'raise'")
        self._port = port
        self._get = port.get
        self._execute = port.execute
        self._space = space
        self._type = type
        self._codec = codec_for(type)
        self._decode: Callable[[bytes], T] = self._codec.decode
        self._failures = self._codec.failures
        self._default_lifetime = None if isinstance(ttl, UnsetType) else _px(ttl)
        self._falls_back = on_outage == "fallback"
        self._tally = tally
        self._flights = flights
        self._reporter = reporter
        self._loading = Loading(port, flights, self._codec, type, tally, partial(self._write_failed, "get_or_set"))

    @property
    def namespace(self) -> str:
        """The namespace, without the bay's prefix."""
        return self._space.label

    def stats(self) -> CacheStats:
        """Return what this namespace counted since the bay was made."""
        return self._tally.stats()

    # reads

    @overload
    async def get(self, key: Key) -> T | None: ...
    @overload
    async def get(self, key: Key, default: D) -> T | D: ...
    async def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none.

        With the server away the answer is *default*, and that is reported (``on_outage="raise"`` raises instead).

        Raises:
            InvalidKey: the key cannot be used.
            DecodeError: the stored bytes are not of this cache's type.
            Unavailable: only with ``on_outage="raise"``.
        """
        name = self._space.name(key)
        try:
            data = await self._get(name)
        except Unavailable as error:
            data = await self._get_again(error, key, name)
        if data is None:
            self._tally.misses += 1
            return default
        try:
            value = self._decode(data)
        except self._failures as error:
            raise self._undecodable(data, key, error) from None
        self._tally.hits += 1
        return value

    async def fetch(self, key: Key) -> T:
        """Return the value of *key*, also a stored ``None``.

        Raises:
            CacheMiss: there is no entry (or the server is away, which is reported).
            InvalidKey, DecodeError, Unavailable: as for `get`.
        """
        value = await self.get(key, UNSET)
        if isinstance(value, UnsetType):
            raise CacheMiss(self.namespace, key)
        return value

    async def get_many(self, keys: Iterable[Key]) -> dict[Key, T]:
        """Return those of *keys* that are there, under the keys as given, in one round trip.

        Raises:
            InvalidKey, DecodeError, Unavailable: as for `get`.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        names = [self._space.name(key) for key in wanted]
        try:
            values = await self._execute("MGET", *names)
        except Unavailable as error:
            self._read_failed("get_many", wanted, error)
            values = [None] * len(wanted)
        found = {}
        for key, data in zip(wanted, values, strict=True):
            if data is not None:
                try:
                    found[key] = self._decode(data)
                except self._failures as error:
                    raise self._undecodable(data, key, error) from None
        self._tally.hits += len(found)
        self._tally.misses += len(wanted) - len(found)
        return found

    async def exists(self, key: Key) -> bool:
        """Whether there is an entry for *key*. With the server away the answer is False, and that is reported."""
        name = self._space.name(key)
        try:
            return bool(await self._execute("EXISTS", name))
        except Unavailable as error:
            self._read_failed("exists", key, error)
            return False

    async def ttl(self, key: Key) -> float | None:
        """Return how many seconds *key* has to live: None if there is no entry, ``math.inf`` if it lives for ever."""
        name = self._space.name(key)
        try:
            left = await self._execute("PTTL", name)
        except Unavailable as error:
            self._read_failed("ttl", key, error)
            return None
        return math.inf if left == -1 else left / 1000 if left >= 0 else None

    # writes

    async def set(self, key: Key, value: T, *, ttl: Duration | UnsetType | None = UNSET) -> None:
        """Store *value* for *ttl* (the cache's own by default; ``None`` means for ever). The last writer wins.

        After a change in the database use `delete` instead: a value that was read earlier must not overwrite a newer one.
        With the server away nothing is stored, and that is reported.

        Raises:
            InvalidKey: the key cannot be used.
            InvalidDuration, MissingTTL: the lifetime is malformed, or there is none.
            EncodeError: the value cannot be stored; nothing was sent.
            Unavailable: only with ``on_outage="raise"``.
        """
        name, lifetime, packed = self._space.name(key), self._lifetime(ttl), self._codec.encode(value)
        self._flights.void((name,))
        try:
            await self._execute("SET", name, packed, *lifetime)
        except Unavailable as error:
            self._write_failed("set", key, error)

    async def set_many(self, mapping: Mapping[Key, T], *, ttl: Duration | UnsetType | None = UNSET) -> None:
        """Store every pair of *mapping*, in one round trip; not as one transaction. If one cannot be encoded, nothing is sent.

        Raises:
            InvalidKey, InvalidDuration, MissingTTL, EncodeError, Unavailable: as for `set`.
        """
        lifetime = self._lifetime(ttl)
        entries = {self._space.name(key): self._codec.encode(value) for key, value in mapping.items()}
        self._flights.void(entries)
        try:
            replies = await self._port.execute_many([("SET", name, packed, *lifetime) for name, packed in entries.items()])
            raise_refusal(replies)
        except Unavailable as error:
            self._write_failed("set_many", list(mapping), error)

    async def add(self, key: Key, value: T, *, ttl: Duration | UnsetType | None = UNSET) -> bool:
        """Store *value* only if *key* has no entry, atomically; return whether it was stored.

        Raises:
            InvalidKey, InvalidDuration, MissingTTL, EncodeError: as for `set`.
            Unavailable: the server could not say whether it was stored.
        """
        name, lifetime, packed = self._space.name(key), self._lifetime(ttl), self._codec.encode(value)
        self._flights.void((name,))
        return await self._execute("SET", name, packed, "NX", *lifetime) is not None

    async def expire(self, key: Key, ttl: Duration | None) -> bool:
        """Set the lifetime of *key* to *ttl* from now (``None``: for ever); return whether there is an entry.

        Raises:
            InvalidKey, InvalidDuration: an argument cannot be used.
            Unavailable: the server could not be asked.
        """
        name = self._space.name(key)
        if ttl is not None:
            return bool(await self._execute("PEXPIRE", name, to_ms(ttl), idempotent=True))
        replies = await self._port.execute_many([("PERSIST", name), ("EXISTS", name)], idempotent=True)
        raise_refusal(replies)
        return bool(replies[1])

    # invalidation

    async def delete(self, *keys: Key) -> int:
        """Remove *keys*; return how many were there. A load under way in this process will not store its value.

        Raises:
            InvalidKey: a key cannot be used.
            Unavailable: the entries may still be there. An invalidation never fails silently.
        """
        names = [self._space.name(key) for key in keys]
        self._flights.void(names)
        return int(await self._execute("UNLINK", *names, idempotent=True)) if names else 0

    async def delete_matching(self, pattern: str) -> int:
        """Remove the keys of this namespace that match the glob *pattern* (``*``, ``?``, ``[...]``); return how many there were.

        The server is asked in batches of a thousand, so that it never stalls; keys written meanwhile may stay.

        Raises:
            InvalidKey: the pattern is empty.
            Unavailable: entries may still be there.
        """
        return await self._sweep(self._space.pattern(pattern))

    async def clear(self) -> int:
        """Remove everything in this namespace (also in those nested below it) and nothing else; return how many keys there were.

        Raises:
            Unavailable: entries may still be there.
        """
        return await self._sweep(self._space.everything())

    async def _sweep(self, match: str) -> int:
        self._flights.void_under(self._space.head)
        removed, cursor = 0, b"0"
        while True:
            cursor, names = await self._execute("SCAN", cursor, "MATCH", match, "COUNT", _SCAN_COUNT)
            if names:
                removed += await self._execute("UNLINK", *names, idempotent=True)
            if cursor == b"0":
                return removed

    # read through

    async def get_or_set(self, key: Key, loader: Callable[[], T | Awaitable[T]], *, ttl: Duration | UnsetType | None = UNSET) -> T:
        """Return the value of *key*; if there is none, call *loader* without arguments, store what it returns, and return that.

        Callers of one process that miss together share one load, and its error. A value that cannot be decoded is
        loaded anew, and reported. With the server away the loader is used, and that is reported.

        Raises:
            InvalidKey, InvalidDuration, MissingTTL: an argument cannot be used.
            EncodeError: the loaded value cannot be stored.
            RecursiveLoad: the loader asks for the key that it loads.
            Unavailable: only with ``on_outage="raise"``.
            Exception: whatever the loader raised.
        """
        name, lifetime = self._space.name(key), self._lifetime(ttl)
        mark = self._flights.mark()
        value = await self._look_up(name, key)
        if isinstance(value, UnsetType) and self._flights.landed_since(name, mark):
            value = await self._look_up(name, key)
        if not isinstance(value, UnsetType):
            self._tally.hits += 1
            return value
        self._tally.misses += 1
        return self._decode(await self._loading.share(name, key, loader, lifetime))

    async def _look_up(self, name: str, key: Key) -> T | UnsetType:
        try:
            data = await self._execute("GET", name)
        except Unavailable as error:
            self._read_failed("get_or_set", key, error)
            data = None
        except ServerError as error:  # such as WRONGTYPE: the entry is of no use, and will be replaced
            self._report(Undecodable(error, self.namespace, "get_or_set", key))
            data = None
        if data is None:
            return UNSET
        try:
            return self._decode(data)
        except self._failures as error:
            failure = DecodeError(self._codec.explain(error))
            self._report(Undecodable(failure, self.namespace, "get_or_set", key))
            return UNSET

    def _lifetime(self, ttl: Duration | UnsetType | None) -> tuple[Arg, ...]:
        if not isinstance(ttl, UnsetType):
            return _px(ttl)
        if self._default_lifetime is None:
            raise MissingTTL(
                f"cache {self.namespace!r} has no ttl of its own: give one here or to bay.cache(), as in ttl='15m'; ttl=None means for ever"
            )
        return self._default_lifetime

    def _undecodable(self, data: bytes, key: Key, failure: Exception) -> DecodeError:
        self._tally.errors += 1
        return DecodeError(
            f"{self.namespace}:{key} holds {len(data)} bytes that are not {self._codec!r}: {self._codec.explain(failure)}; "
            "delete the key, or read it with the type that wrote it"
        )

    async def _get_again(self, error: Unavailable, key: Key, name: str) -> bytes | None:
        try:
            return await self._port.again(error, ("GET", name))  # type: ignore[no-any-return]
        except Unavailable as final:
            self._read_failed("get", key, final)
            return None

    def _read_failed(self, operation: str, key: object, error: Unavailable) -> None:
        if not self._falls_back:
            raise error
        self._report(ReadFailed(error, self.namespace, operation, key))

    def _write_failed(self, operation: str, key: object, error: Unavailable | ServerError) -> None:
        if isinstance(error, Unavailable) and not self._falls_back:
            raise error
        self._report(WriteFailed(error, self.namespace, operation, key))

    def _report(self, event: ReadFailed | WriteFailed | Undecodable) -> None:
        self._tally.errors += 1
        self._reporter.report(event)

    def __repr__(self) -> str:
        typed = "" if self._type is None else f", type={getattr(self._type, '__qualname__', self._type)}"
        return f"{type(self).__name__}({self._space.head!r}{typed})"


def _px(ttl: Duration | None) -> tuple[Arg, ...]:
    return () if ttl is None else ("PX", to_ms(ttl))
