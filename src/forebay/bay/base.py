"""What both colours of a bay hold: settings, reporter, tallies and flights, and the embedded server if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ..cache.base import Shared
from ..cache.core import CacheCore
from ..cache.flights import Flights
from ..cache.making import CacheOptions, make_cache
from ..cache.outbox import Outbox
from ..cache.tally import Tally
from ..cache.versions import VersionBook
from ..durations import Duration, to_seconds
from ..events import Hook, Reporter
from ..keys import check_prefix
from ..operations import Listener, OperationHook
from ..port.clock import ServerClock
from ..port.port import Port
from ..port.tracking import Tracking
from ..settings import Settings
from ..stats import Stats
from ..wire.address import Address, standalone_address

if TYPE_CHECKING:
    from ..port.redispy import OwnClient
    from ..ratelimit.core import LimiterCore
    from ..ratelimit.making import Limits
    from ..ratelimit.options import LimitOptions
    from ..ratelimit.rate import RateLike
    from ..sessions.core import SessionsCore
    from ..sessions.eviction import EvictionWatch
    from ..sessions.options import SessionOptions
    from ..tokens.core import TokensCore
    from ..tokens.options import TokenOptions
    from ..wire.embedded import EmbeddedServer

__all__ = ["Bay"]

C = TypeVar("C", bound=CacheCore[Any])
P = TypeVar("P", bound=Port)
S = TypeVar("S", bound="SessionsCore")
K = TypeVar("K", bound="TokensCore")
L = TypeVar("L", bound="LimiterCore")


class Bay(Generic[P]):
    """Everything about a bay that needs no waiting."""

    _awaits: ClassVar[bool]

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
        self._eviction: EvictionWatch | None = None
        self._limits: Limits | None = None
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
        from ..sessions.options import read_options
        from ..sessions.token import Tokens

        lifetimes, secret, coding = read_options(options)
        clock, watch = self._shared.clock, self._watch_evictions()
        return kind(self.port, self.prefix, self._reporter, clock, lifetimes, Tokens(secret), coding, watch)

    def _make_tokens(self, kind: type[K], signing_keys: str | bytes | Sequence[str | bytes], options: TokenOptions) -> K:
        from ..tokens.making import make_tokens
        from ..tokens.revocations import REVOKED

        tally = self._tallies.setdefault(REVOKED, Tally(REVOKED, self._tell))
        return make_tokens(kind, self._shared, tally, signing_keys, options, self._watch_evictions(), awaits=self._awaits)

    def _make_limiter(self, kind: type[L], name: str, rate: RateLike | None, options: LimitOptions) -> L:
        return self._all_limits().make(kind, name, rate, options)

    def _all_limits(self) -> Limits:
        """Return what the limiters of this bay share."""
        from ..ratelimit.making import Limits

        if self._limits is None:
            splits = self.settings.topology == "cluster"
            self._limits = Limits(self.port, self.prefix, self._reporter, awaits=self._awaits, splits=splits)
        return self._limits

    def _watch_evictions(self) -> EvictionWatch:
        """Return the watch of all that must not be evicted; the server is asked once."""
        from ..sessions.eviction import EvictionWatch

        if self._eviction is None:
            self._eviction = EvictionWatch(self.port, self._reporter)
        return self._eviction

    async def _take_leave(self) -> None:
        """Send invalidations that wait, and be waited for by no other's."""
        await self._outbox.close()
        for broadcast in self._shared.broadcasts.values():
            if broadcast.roll is not None:
                await broadcast.roll.leave(self.port)

    def _connected(self) -> None:
        """Do what comes once a server is there."""
        if self._eviction is not None:
            self._eviction.look()

    def _log_stats(self) -> None:
        if self._log_stats_every is not None:
            from ..wire.statslog import log_stats

            waiting = self.port.waiting
            waiting.spawn(log_stats(waiting, self._log_stats_every, self.port.stats, self.settings.where), "forebay-stats")

    def stats(self) -> Stats:
        """Return a snapshot of connections, caches and reported events."""
        caches = {namespace: tally.stats() for namespace, tally in self._tallies.items()}
        limits = {} if self._limits is None else self._limits.stats()
        return Stats(self.port.stats(), caches, self._reporter.counts(), self._outbox.pending, limits)

    def __repr__(self) -> str:
        prefix = f", prefix={self.prefix!r}" if self.prefix else ""
        return f"{type(self).__name__}({self.settings.where!r}{prefix})"


def _private_server() -> EmbeddedServer:
    from ..wire.embedded import EmbeddedServer  # on use: a bay on a real server needs no temporary directories

    return EmbeddedServer()


def _own_client(client: Any, *, awaits: bool) -> OwnClient:
    from ..port.redispy import OwnClient  # on use, as it is used by few

    return OwnClient(client, awaits=awaits)
