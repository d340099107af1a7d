"""One connection to one server, and everything that is handed out from it: `Forebay` for threads, `AsyncForebay` for asyncio."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, Unpack, overload

from .cache.base import Shared
from .cache.cache import AsyncCache, Cache
from .cache.core import CacheCore
from .cache.flights import Flights
from .cache.making import CacheOptions, make_cache
from .cache.outbox import Outbox
from .cache.tally import Tally
from .cache.versions import VersionBook
from .colours import complete, documented_like
from .commands import AsyncCommands, Commands
from .durations import Duration, to_seconds
from .errors import ConnectFailed
from .events import Hook, Reporter
from .keys import check_prefix
from .operations import Listener, OperationHook
from .port.clock import ServerClock
from .port.port import Port
from .port.tracking import Tracking
from .settings import Settings
from .stats import Stats
from .wire.address import Address, standalone_address

if TYPE_CHECKING:
    from .port.aio import AioPort
    from .port.blocking import BlockingPort
    from .port.redispy import OwnClient
    from .sessions.core import SessionsCore
    from .sessions.options import SessionOptions
    from .sessions.sessions import AsyncSessions, Sessions
    from .wire.embedded import EmbeddedServer

__all__ = ["AsyncForebay", "Forebay"]

T = TypeVar("T")
C = TypeVar("C", bound=CacheCore[Any])
P = TypeVar("P", bound=Port)
S = TypeVar("S", bound="SessionsCore")


class _Bay(Generic[P]):
    """What both colours hold: settings, reporter, tallies and flights, and the embedded server if there is one."""

    _awaits: ClassVar[bool]

    def __init__(
        self,
        url: str | None,
        settings: Settings | None,
        prefix: str,
        required: bool,
        on_event: Hook | None,
        on_operation: OperationHook | None,
        log_stats_every: Duration | None,
        client: Any,
    ) -> None:
        if (url is not None) + (settings is not None) + (client is not None) > 1:
            raise TypeError("give a url, settings= or client=, not both: each of them says where the server is")
        self._own = None if client is None else _own_client(client, awaits=self._awaits)
        if self._own is not None:
            settings = self._own.settings
        self.settings = settings or (Settings.from_env() if url is None else Settings.from_url(url))
        self.prefix = check_prefix(prefix)
        self._required = required
        self._log_stats_every = None if log_stats_every is None else to_seconds(log_stats_every)
        self._reporter = Reporter(on_event)
        self._tell = None if on_operation is None else Listener(on_operation, self._reporter)
        self._tallies: dict[str, Tally] = {}
        self._tracking = Tracking()
        self._embedded = _private_server() if self.settings.topology == "embedded" else None
        self.port: P = self._make_port() if self._own is None else self._own.port(self._reporter, self._tracking)
        book = VersionBook(self.port, self.prefix, splits=self.settings.topology == "cluster")
        clock = ServerClock(self.port)
        self._outbox = Outbox(self.port, self._reporter)
        self._shared = Shared(self.port, self.prefix, self._reporter, Flights(self.port.promise), book, clock, {}, self._outbox)

    def _make_port(self) -> P:
        raise NotImplementedError

    def _locate(self) -> Address:
        return standalone_address(self.settings) if self._embedded is None else self._embedded.address()

    def _make_cache(self, kind: type[C], namespace: str, type_: Any, options: CacheOptions) -> C:
        tally = self._tallies.setdefault(namespace, Tally(namespace, self._tell))
        return make_cache(kind, self._shared, namespace, type_, tally, options, awaits=self._awaits)

    def _make_sessions(self, kind: type[S], options: SessionOptions) -> S:
        from .sessions.options import read_options
        from .sessions.token import Tokens

        lifetimes, secret, coding = read_options(options)
        return kind(self.port, self.prefix, self._reporter, self._shared.clock, lifetimes, Tokens(secret), coding)

    async def _take_leave(self) -> None:
        """Send invalidations that wait, and be waited for by no other's."""
        await self._outbox.close()
        for broadcast in self._shared.broadcasts.values():
            if broadcast.roll is not None:
                await broadcast.roll.leave(self.port)

    def _log_stats(self) -> None:
        if self._log_stats_every is not None:
            from .wire.statslog import log_stats

            waiting = self.port.waiting
            waiting.spawn(log_stats(waiting, self._log_stats_every, self.port.stats, self.settings.where), "forebay-stats")

    def stats(self) -> Stats:
        """Return a snapshot of connections, caches and reported events."""
        caches = {namespace: tally.stats() for namespace, tally in self._tallies.items()}
        return Stats(self.port.stats(), caches, self._reporter.counts(), self._outbox.pending)

    def __repr__(self) -> str:
        prefix = f", prefix={self.prefix!r}" if self.prefix else ""
        return f"{type(self).__name__}({self.settings.where!r}{prefix})"


class AsyncForebay(AsyncCommands, _Bay["AioPort"]):
    """A bay for asyncio.

    Args:
        url: ``redis://``, ``unix://`` or ``embedded://`` (a private server); without it ``REDIS_URL`` or ``REDIS_HOST`` and its
            companions are read.
        settings: `Settings` instead of a URL.
        prefix: stands before every key, so that two applications on one server never meet.
        required: whether `connect` (and ``async with``) fails when the server is away. With False the bay starts without it.
        on_event: receives what is reported, see `forebay.events`.
        on_operation: receives what the caches do, see `forebay.operations`; each takes a little longer then.
        log_stats_every: logs a line of the wire's counts so often, once connected (logger ``forebay``, level INFO).
        client: a client of redis-py (5 to 8) or valkey-py instead of a URL: of one server, from a Sentinel, or of a cluster. It
            is used as it is, with its own retries and timeouts, never changed and never closed. Slower than Forebay's own wire.

    Raises:
        SettingsError: the URL or a variable cannot be read, or the client cannot be used.
        InvalidNamespace: the prefix cannot be used.
    """

    _awaits = True

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        prefix: str = "",
        required: bool = True,
        on_event: Hook | None = None,
        on_operation: OperationHook | None = None,
        log_stats_every: Duration | None = None,
        client: Any = None,
    ) -> None:
        super().__init__(url, settings, prefix, required, on_event, on_operation, log_stats_every, client)

    def _make_port(self) -> AioPort:
        from .port.aio import AioPort  # on use: threads need no asyncio, and the other way round
        from .wire.multiplexer import Multiplexer
        from .wire.topology import route_to
        from .wire.waiting_aio import AioWaiting

        waiting = AioWaiting()
        route = route_to(self.settings, self._reporter, Multiplexer, waiting, self._locate, self._tracking)
        return AioPort(route, waiting, self._reporter, self._tracking)

    @overload
    def cache(self, namespace: str, *, type: type[T], **options: Unpack[CacheOptions]) -> AsyncCache[T]: ...
    @overload
    def cache(self, namespace: str, *, type: Any = ..., **options: Unpack[CacheOptions]) -> AsyncCache[Any]: ...
    def cache(self, namespace: str, *, type: Any = None, **options: Unpack[CacheOptions]) -> AsyncCache[Any]:
        """Return a cache of values of *type* under ``<prefix><namespace>:``.

        Args:
            namespace: letters, digits, ``_ - .`` in parts joined by ``:``; ``session``, ``limit`` and ``lock`` are reserved.
            type: a dataclass, msgspec Struct, pydantic model, TypedDict, datetime, UUID, ``list[...]`` ...; None takes JSON's own types.
            options: see `CacheOptions` and `FreshnessOptions`: ``ttl``, ``near``, ``stale_while_revalidate``, ``codec`` ...

        Raises:
            InvalidNamespace, InvalidDuration, SettingsError: an argument cannot be used.
            EncodeError: the type cannot be stored.
            TypeError: there is no such option.
        """
        return self._make_cache(AsyncCache[Any], namespace, type, options)

    def sessions(self, **options: Unpack[SessionOptions]) -> AsyncSessions:
        """Return the sessions under ``<prefix>session:``.

        Args:
            options: see `SessionOptions`: ``idle_timeout``, ``absolute_timeout``, ``max_per_user``, ``seal_keys`` ...

        Raises:
            InvalidDuration, SettingsError: an option cannot be used.
            TypeError: there is no such option.
        """
        from .sessions.sessions import AsyncSessions

        return self._make_sessions(AsyncSessions, options)

    async def connect(self) -> Self:
        """Connect and ping the server, and return the bay. With ``required=False`` an absent server is no error.

        Raises:
            ConnectFailed: the message names address and cause.
            ServerStartFailed: the embedded server did not start.
        """
        try:
            await self.port.connect()
        except ConnectFailed:
            if self._required:
                await self.close()
                raise
        except BaseException:
            await self.close()
            raise
        self._log_stats()
        return self

    async def ping(self) -> float:
        """Ask the server for a sign of life and return how many seconds it took.

        Raises:
            Unavailable: there was none.
        """
        began = time.perf_counter()
        await self.port.execute("PING")
        return time.perf_counter() - began

    async def close(self) -> None:
        """Finish what is in flight, cancel loads, close the connections, and stop the embedded server. Safe to call again."""
        await self._take_leave()
        await self.port.close()
        if self._embedded is not None:
            self._embedded.stop()

    aclose = close

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


@documented_like(AsyncForebay)
class Forebay(Commands, _Bay["BlockingPort"]):
    """A bay for threads: `AsyncForebay` without ``await``. It is thread-safe.

    Args:
        url: ``redis://``, ``unix://`` or ``embedded://`` (a private server); without it ``REDIS_URL`` or ``REDIS_HOST`` and its
            companions are read.
        settings: `Settings` instead of a URL.
        prefix: stands before every key, so that two applications on one server never meet.
        required: whether `connect` (and ``with``) fails when the server is away. With False the bay starts without it.
        on_event: receives what is reported, see `forebay.events`.
        on_operation: receives what the caches do, see `forebay.operations`; each takes a little longer then.
        log_stats_every: logs a line of the wire's counts so often, once connected (logger ``forebay``, level INFO).
        client: a client of redis-py (5 to 8) or valkey-py instead of a URL: of one server, from a Sentinel, or of a cluster. It
            is used as it is, with its own retries and timeouts, never changed and never closed. Slower than Forebay's own wire.

    Raises:
        SettingsError: the URL or a variable cannot be read, or the client cannot be used.
        InvalidNamespace: the prefix cannot be used.
    """

    _awaits = False

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        prefix: str = "",
        required: bool = True,
        on_event: Hook | None = None,
        on_operation: OperationHook | None = None,
        log_stats_every: Duration | None = None,
        client: Any = None,
    ) -> None:
        super().__init__(url, settings, prefix, required, on_event, on_operation, log_stats_every, client)

    def _make_port(self) -> BlockingPort:
        from .port.blocking import BlockingPort
        from .wire.pool import Pool
        from .wire.topology import route_to
        from .wire.waiting import BlockingWaiting

        waiting = BlockingWaiting()
        route = route_to(self.settings, self._reporter, Pool, waiting, self._locate, self._tracking)
        return BlockingPort(route, waiting, self._reporter, self._tracking)

    @overload
    def cache(self, namespace: str, *, type: type[T], **options: Unpack[CacheOptions]) -> Cache[T]: ...
    @overload
    def cache(self, namespace: str, *, type: Any = ..., **options: Unpack[CacheOptions]) -> Cache[Any]: ...
    def cache(self, namespace: str, *, type: Any = None, **options: Unpack[CacheOptions]) -> Cache[Any]:
        return Cache(self._make_cache(CacheCore[Any], namespace, type, options))

    def sessions(self, **options: Unpack[SessionOptions]) -> Sessions:
        from .sessions.core import SessionsCore
        from .sessions.sessions import Sessions

        return Sessions(self._make_sessions(SessionsCore, options))

    def connect(self) -> Self:
        try:
            complete(self.port.connect())
        except ConnectFailed:
            if self._required:
                self.close()
                raise
        except BaseException:
            self.close()
            raise
        self._log_stats()
        return self

    def ping(self) -> float:
        began = time.perf_counter()
        complete(self.port.execute("PING"))
        return time.perf_counter() - began

    def close(self) -> None:
        complete(self._take_leave())
        complete(self.port.close())
        if self._embedded is not None:
            self._embedded.stop()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _private_server() -> EmbeddedServer:
    from .wire.embedded import EmbeddedServer  # on use: a bay on a real server needs no temporary directories

    return EmbeddedServer()


def _own_client(client: Any, *, awaits: bool) -> OwnClient:
    from .port.redispy import OwnClient  # on use, as it is used by few

    return OwnClient(client, awaits=awaits)
