"""What every operation of a cache stands on: names, options, a look at an entry, and what is reported."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final, Generic, Literal, Self, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct

from ..codecs.coding import Coding
from ..codecs.frozen import is_frozen, is_frozen_value
from ..errors import InvalidKey, ServerError, SettingsError, Unavailable
from ..events import CacheEvent, ReadFailed, Reporter, WriteFailed
from ..keys import Key, Namespace
from ..port.clock import ServerClock
from ..port.port import Port, Reply, raise_refusal
from .assurance import Assurance
from .broadcast import Broadcast
from .flights import Flights
from .freshness import Freshness, FreshnessOptions, Verdict, judge
from .leases import Leases
from .loading import Load, Loading, Tags
from .looking import NOTHING, Look, Seen, State
from .near import Held
from .nearby import Nearby
from .outbox import Outbox
from .roll import Roll
from .tally import CacheStats, Tally
from .versions import VersionBook

__all__ = ["MANY", "SIMPLE", "CacheBase", "OnOutage", "Shared"]

T = TypeVar("T")

OnOutage = Literal["fallback", "raise"]
MANY: Final = 500  # keys in one operation, above which it has the read timeout and not the budget of a request
SIMPLE: Final = frozenset({str, int, UUID})  # kinds of keys whose text is their name
_OVERHEAD: Final = 400  # bytes that a small entry takes in this process beside its name and payload


class Shared(Struct):
    """What all caches of a bay share."""

    port: Port
    prefix: str
    reporter: Reporter
    flights: Flights
    book: VersionBook
    clock: ServerClock
    broadcasts: dict[tuple[str, bool], Broadcast]
    outbox: Outbox

    def broadcast(self, space: Namespace, *, strict: bool = False) -> Broadcast:
        """Return the one that tells of changes in *space*, and if it is *strict* stands on its roll.

        Raises:
            SettingsError: there can be none over this connection.
        """
        if self.book.splits or not self.port.tells:
            raise SettingsError(
                f"nobody tells of every change in cache {space.label!r} over this connection: that needs Forebay's own wire "
                "(a url, not client=) to a single server or a primary behind sentinels, not to a cluster"
            )
        known = self.broadcasts.get((space.label, strict))
        if known is None:
            outer = [self.prefix + name for name in space.versions[:-1]]
            roll = Roll(self.prefix, space) if strict else None
            known = Broadcast(self.port, space.label, [space.head, *outer], self.reporter, roll)
            self.broadcasts[space.label, strict] = known
        return known


class CacheBase(Generic[T]):
    """One cache: a namespace, a type, a codec, and options."""

    def __init__(
        self,
        shared: Shared,
        space: Namespace,
        coding_of: Callable[[Any], Coding[Any]],
        *,
        type: Any,
        freshness: Freshness,
        on_outage: OnOutage,
        lease: int,
        near: Nearby | None,
        versioned: bool,
        tally: Tally,
        assurance: Assurance,
    ) -> None:
        if on_outage not in ("fallback", "raise"):
            raise ValueError(f"on_outage={on_outage!r} is unknown: use 'fallback' or 'raise'")
        self._shared = shared
        self._port = shared.port
        self._get = shared.port.get
        self._execute = shared.port.execute
        self._space = space
        self._coding_of = coding_of
        self._type = type
        self._coding: Coding[T] = coding_of(type)
        self._decode: Callable[[bytes], T] = self._coding.decode_bare
        self._failures = self._coding.failures
        self._unsure: tuple[type[Exception], ...] = (Unavailable, ServerError, *self._failures)
        self._freshness = freshness
        self._on_outage = on_outage
        self._falls_back = on_outage == "fallback"
        self._near = near
        self._head = space.head
        self._held_near = None if near is None or tally.tell is not None else near.lookup
        self._assurance = assurance
        self._shares = is_frozen(type)
        self._versioned = versioned
        self._spaces = space.versions if versioned else ()
        self._tally = tally
        self._book = shared.book
        self._clock = shared.clock
        self._tagged = versioned  # entries with versions were seen: it is worth to know which connection carries a reply
        self._look = Look(self._port, self._coding, self._book, self._spaces, self._report, loud=not self._falls_back)
        self._plain = self._look.bare and near is None and tally.tell is None
        self._leases = Leases(self._port, self._clock, lease)
        kind = type if type.__hash__ is not None else id(self._coding)
        self._loading = Loading(
            self._port,
            shared.flights,
            self._leases,
            self._look,
            self._book,
            self._clock,
            self._coding,
            kind,
            space.label,
            self._spaces,
            space.clock,
            tally,
            lambda key, error: self._write_failed("get_or_set", key, error),
            self._report,
        )

    @property
    def namespace(self) -> str:
        """The namespace, without the bay's prefix."""
        return self._space.label

    def stats(self) -> CacheStats:
        """Return what this namespace counted since the bay was made."""
        return self._tally.stats()

    def typed(self, type: Any) -> Self:
        """Return this cache for values of another type: the same namespace, codec and options, and no near tier of its own.

        Raises:
            EncodeError: the type cannot be stored.
        """
        return self.__class__(
            self._shared,
            self._space,
            self._coding_of,
            type=type,
            freshness=self._freshness,
            on_outage=self._on_outage,
            lease=self._leases.lasting,
            near=None if self._near is None else self._near.another(),
            versioned=self._versioned,
            tally=self._tally,
            assurance=self._assurance,
        )

    # a look at one entry

    def _held(self, name: str) -> Held | None:
        """Return what the near tier holds, if it may be used, and nobody listens."""
        near = self._held_near
        if near is None:
            return None
        held = near(name)
        if held is None or not self._may_use(held):
            return None
        held.seen = True
        self._tally.near_hits += 1
        return held

    def _may_use(self, held: Held) -> bool:
        return held.until > monotonic() and (not held.versions or bool(self._book.holds(held.versions)))

    def _value_of(self, held: Held, name: str) -> T:
        value: T = held.value  # type: ignore[assignment]
        return value if value is not UNSET else self._coding.decode(held.data, name)

    async def _see(self, name: str, key: Key, operation: str) -> Seen:
        """Read *name* from the server and judge it.

        Raises:
            Unavailable: it could not be read.
        """
        if self._near is not None:
            return await self._see_and_keep(self._near, name, key, operation)
        source: object | None = None
        try:
            if self._tagged:
                (data,), source = await self._port.track(name.encode(), [("get", name)], told=False)
                raise_refusal([data])
            else:
                try:
                    data = await self._get(name)
                except Unavailable as error:
                    data = await self._port.again(error, ("get", name))
            return await self._judged(data, source, name, key, operation)
        except Unavailable:
            raise
        except ServerError as error:  # such as WRONGTYPE: the entry is of no use, and will be replaced
            return self._look.unusable(error, key, operation)

    async def _see_and_keep(self, near: Nearby, name: str, key: Key, operation: str) -> Seen:
        """Do so, and let the near tier hold what was seen if it will be told when that changes."""
        broadcast = near.broadcast
        marker = near.store.begin(name)
        held: Held | None = None
        try:
            # asked after the marker is there: if that connection is lost from now on, the marker is struck
            listens = broadcast.listening() if broadcast is not None else None
            began = monotonic()
            replies, source = await self._port.track(name.encode(), [("get", name), ("pttl", name)], told=broadcast is None)
            raise_refusal(replies)
            data, left = replies
            seen = await self._judged(data, source, name, key, operation, listens=listens)
            tells = source if broadcast is None else listens
            if seen.state is State.LIVE and tells is not None:
                held = self._holding(name, seen, tells, left, began)
        except Unavailable:
            raise
        except ServerError as error:
            return self._look.unusable(error, key, operation)
        else:
            return seen
        finally:
            near.store.settle(marker, held)

    def _holding(self, name: str, seen: Seen, source: object, left: int, began: float) -> Held | None:
        if left == -2:  # it ended right after it was read
            return None
        kept = float("inf") if left < 0 else left
        entry = seen.entry
        if entry is not None and entry.fresh_until < float("inf"):
            margin = entry.load_ms * self._freshness.early_refresh * 3
            if self._freshness.sliding:
                margin = self._freshness.ttl_for(seen.value, self.namespace) / 2
            kept = min(kept, entry.fresh_until - self._clock.now() - margin)
        if kept <= 0 or name[len(self._head)] == "#":  # escaped names are not held, so that a key's text finds its own entry only
            return None
        shared = self._shares or (self._type is None and is_frozen_value(seen.value))
        payload = seen.payload
        return Held(
            value=seen.value if shared else UNSET,
            data=b"" if shared else payload,
            until=began + kept / 1000,
            source=source,
            versions=() if entry is None else entry.versions,
            size=len(payload) + len(name) + _OVERHEAD,
        )

    async def _judged(
        self,
        data: Reply,
        source: object | None,
        name: str,
        key: object,
        operation: str,
        current: Mapping[str, bytes | None] | None = None,
        listens: object | None = None,
    ) -> Seen:
        seen = await self._look.judge(data, source, name, key, operation, current, listens)
        if seen.entry is not None:
            if seen.entry.versions:
                self._is_tagged()
            if self._clock.due:
                await self._clock.ask()
        return seen

    def _is_tagged(self) -> None:
        """From now on look at each reply with its connection, for that may know the entry's versions: another question is saved."""
        self._tagged, self._plain = True, False

    async def _live(self, name: str, key: Key, operation: str) -> Seen:
        """Look at an entry, for a plain read: what is not fresh is no entry, and neither is what cannot be asked for."""
        try:
            seen = await self._see(name, key, operation)
        except Unavailable as error:
            self._read_failed(operation, key, error)
            return NOTHING
        if seen.state is not State.LIVE or self._verdict(seen, self._freshness, plainly=True) is not Verdict.FRESH:
            return NOTHING
        if self._freshness.sliding:
            self._slide(name, seen)
        return seen

    def _verdict(self, seen: Seen, freshness: Freshness, *, plainly: bool = False) -> Verdict:
        if seen.entry is None:
            return Verdict.FRESH
        now = self._clock.now()
        if plainly:
            return Verdict.FRESH if seen.entry.fresh_until > now else Verdict.SPENT
        return judge(seen.entry, freshness, now, 1.0 - random.random())  # noqa: S311 - spreads load, guards nothing

    def _slide(self, name: str, seen: Seen) -> None:
        raise NotImplementedError

    # options of a call

    def _options(self, options: FreshnessOptions) -> Freshness:
        return self._freshness.having(options) if options else self._freshness

    def _load(self, name: str, key: Key, loader: Callable[[], Any], tags: Tags, freshness: Freshness) -> Load:
        freshness.ttl_for(UNSET, self.namespace)
        space = self._space
        if tags:
            self._is_tagged()
        if callable(tags):
            of_value = tags
            return Load(name, key, loader, freshness, lambda value: _named(space, of_value(value)))
        return Load(name, key, loader, freshness, _named(space, tags))

    # what is reported

    def _read_failed(self, operation: str, key: object, error: Unavailable) -> None:
        if not self._falls_back:
            raise error
        self._report(ReadFailed, error, operation, key)

    def _write_failed(self, operation: str, key: object, error: Unavailable | ServerError) -> None:
        if isinstance(error, Unavailable) and not self._falls_back:
            raise error
        self._report(WriteFailed, error, operation, key)

    def _report(self, kind: type[CacheEvent], error: BaseException, operation: str, key: object) -> None:
        self._tally.errors += 1
        self._shared.reporter.report(kind(error, self.namespace, operation, key))

    def __repr__(self) -> str:
        typed = "" if self._type is None else f", type={getattr(self._type, '__qualname__', self._type)}"
        return f"{type(self).__name__}({self._space.head!r}{typed})"


def _named(space: Namespace, tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise InvalidKey(f"tags are a list, as in tags=[{tags!r}]")
    return tuple(dict.fromkeys(space.tag(tag) for tag in tags)) if tags else ()
