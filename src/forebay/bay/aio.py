"""A bay for asyncio: one connection to one server, and everything that is handed out from it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from ..cache.cache import AsyncCache
from ..cache.making import CacheOptions
from ..commands import AsyncCommands
from ..errors import ConnectFailed
from .base import Bay

if TYPE_CHECKING:
    from ..keys import Key
    from ..port.aio import AioPort
    from ..ratelimit.limiter import AsyncLimiter
    from ..ratelimit.options import LimitOptions
    from ..ratelimit.rate import RateLike
    from ..ratelimit.verdict import Decision
    from ..sessions.options import SessionOptions
    from ..sessions.sessions import AsyncSessions
    from ..tokens.options import TokenOptions
    from ..tokens.tokens import AsyncTokens

__all__ = ["AsyncForebay"]

T = TypeVar("T")


class AsyncForebay(AsyncCommands, Bay["AioPort"]):
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

    def _make_port(self) -> AioPort:
        from ..port.aio import AioPort  # on use: threads need no asyncio, and the other way round
        from ..wire.multiplexer import Multiplexer
        from ..wire.topology import route_to
        from ..wire.waiting_aio import AioWaiting

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
            namespace: letters, digits, ``_ - .`` in parts joined by ``:``; ``session``, ``token``, ``limit``, ``lock`` are reserved.
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
        from ..sessions.sessions import AsyncSessions

        return self._make_sessions(AsyncSessions, options)

    def tokens(self, signing_keys: str | bytes | Sequence[str | bytes], **options: Unpack[TokenOptions]) -> AsyncTokens:
        """Return access and refresh tokens for APIs without cookies, under ``<prefix>token:``. Needs ``forebay[jwt]``.

        Args:
            signing_keys: the key of the access tokens; or several, the newest last: it signs, and all can be read.
            options: see `TokenOptions`: ``access_ttl``, ``grace``, ``algorithm`` ...

        Raises:
            InvalidDuration, SettingsError: a key or an option cannot be used, or PyJWT is not installed.
            TypeError: there is no such option.
        """
        from ..tokens.tokens import AsyncTokens

        return self._make_tokens(AsyncTokens, signing_keys, options)

    def limiter(self, name: str, rate: RateLike | None = None, **options: Unpack[LimitOptions]) -> AsyncLimiter:
        """Return a limiter under ``<prefix>limit:``.

        Args:
            name: letters, digits, ``_ - .``. Limiters of one name count together, in all processes.
            rate: ``"100/minute"``, ``"10/second, 1000/hour"``, a `Rate`, or several; None with ``concurrency=`` alone.
            options: see `LimitOptions`: ``algorithm``, ``on_outage``, ``exempt``, ``shadow`` ...

        Raises:
            InvalidRate, InvalidNamespace, InvalidDuration, SettingsError: an argument cannot be used.
            TypeError: there is no such option.
        """
        from ..ratelimit.limiter import AsyncLimiter

        return self._make_limiter(AsyncLimiter, name, rate, options)

    async def hit_all(self, asks: Iterable[tuple[AsyncLimiter, Key] | tuple[AsyncLimiter, Key, int]]) -> Decision:
        """Decide about several limits and keys at once: ``await bay.hit_all([(by_account, "ada"), (by_address, address, 2)])``.

        All are charged (1, or the cost that is given), or none is. On one server, and for one key on a cluster, that is one script. Keys
        in several slots of a cluster are charged one after the other, and given back when a later one refuses.

        Raises:
            InvalidKey, InvalidCost, InvalidRate, UsageError: one of them cannot be; nothing was charged.
        """
        from ..ratelimit.together import hit_all

        return await hit_all(self.port, asks)

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
        else:
            self._connected()
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
