"""A bay for threads: the same as for asyncio, without ``await``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from ..cache.cache import Cache
from ..cache.core import CacheCore
from ..cache.making import CacheOptions
from ..colours import complete, documented_like
from ..commands import Commands
from ..errors import ConnectFailed
from .aio import AsyncForebay
from .base import Bay

if TYPE_CHECKING:
    from ..keys import Key
    from ..port.blocking import BlockingPort
    from ..ratelimit.limiter import Limiter
    from ..ratelimit.options import LimitOptions
    from ..ratelimit.rate import RateLike
    from ..ratelimit.verdict import Decision
    from ..sessions.options import SessionOptions
    from ..sessions.sessions import Sessions
    from ..tokens.options import TokenOptions
    from ..tokens.tokens import Tokens

__all__ = ["Forebay"]

T = TypeVar("T")


@documented_like(AsyncForebay)
class Forebay(Commands, Bay["BlockingPort"]):
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

    def _make_port(self) -> BlockingPort:
        from ..port.blocking import BlockingPort
        from ..wire.pool import Pool
        from ..wire.topology import route_to
        from ..wire.waiting import BlockingWaiting

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
        from ..sessions.core import SessionsCore
        from ..sessions.sessions import Sessions

        return Sessions(self._make_sessions(SessionsCore, options))

    def tokens(self, signing_keys: str | bytes | Sequence[str | bytes], **options: Unpack[TokenOptions]) -> Tokens:
        from ..tokens.core import TokensCore
        from ..tokens.tokens import Tokens

        return Tokens(self._make_tokens(TokensCore, signing_keys, options))

    def limiter(self, name: str, rate: RateLike | None = None, **options: Unpack[LimitOptions]) -> Limiter:
        from ..ratelimit.core import LimiterCore
        from ..ratelimit.limiter import Limiter

        return Limiter(self._make_limiter(LimiterCore, name, rate, options))

    def hit_all(self, asks: Iterable[tuple[Limiter, Key] | tuple[Limiter, Key, int]]) -> Decision:
        from ..ratelimit.together import hit_all

        return complete(hit_all(self.port, asks))

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
        else:
            self._connected()
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
