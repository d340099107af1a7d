"""Bring your own client: a redis-py (5 to 8) or valkey-py client under a bay, with the topology and the account that it has.

The client is recognised by its classes' modules, so that neither package is imported here. It is never changed and never
closed. Slower than Forebay's own wire, with the same behaviour, but for what `redispy_route` says.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

from ..errors import SettingsError
from ..events import Reporter
from ..settings import Settings
from ..urls import Topology
from .tracking import Tracking

__all__ = ["OwnClient"]

_FAMILIES: Final = {"redis": "redis-py", "valkey": "valkey-py"}
_SINGLE: Final = frozenset({"Redis", "Valkey"})
_CLUSTER: Final = frozenset({"RedisCluster", "ValkeyCluster"})
_NO_CLIENTS: Final = frozenset({"Pipeline", "ClusterPipeline"})  # though they inherit from the clients
_TO_PASS: Final = {
    True: "pass redis.asyncio.Redis, redis.asyncio.RedisCluster, what Sentinel(...).master_for(...) returns, or valkey's twins",
    False: "pass redis.Redis, redis.RedisCluster, what Sentinel(...).master_for(...) returns, or valkey's twins",
}


class _ClientSettings(Settings, frozen=True, kw_only=True):
    """Settings for messages alone: where the client connects to, and never as whom."""

    client: str = "client"

    @property
    def where(self) -> str:
        return f"client {self.client} at {super().where}"


class OwnClient:
    """A client that somebody else made.

    Args:
        client: what was given.
        awaits: whether it must be one for asyncio.

    Raises:
        SettingsError: it is another thing, or of the other colour; the message says what to pass.
    """

    def __init__(self, client: Any, *, awaits: bool) -> None:
        family, kind = _recognised(client)
        bay = "AsyncForebay" if awaits else "Forebay"
        if family is None or kind not in _SINGLE | _CLUSTER:
            hint = " (of a Sentinel, what master_for(...) returns)" if type(client).__name__ == "Sentinel" else ""
            raise SettingsError(
                f"{bay}(client=...) cannot use a {type(client).__module__}.{type(client).__qualname__}{hint}: {_TO_PASS[awaits]}"
            )
        if _is_async(client) != awaits:
            one = "for threads" if awaits else "for asyncio"
            twin = "Forebay" if awaits else "AsyncForebay"
            raise SettingsError(f"this client is {one}: give it to {twin}(client=...), or {_TO_PASS[awaits]}")
        self._client = client
        self._family = family
        self._awaits = awaits
        self._cluster = kind in _CLUSTER
        self.settings: Settings = _settings_of(client, f"{_FAMILIES[family]} {sys.modules[family].__version__}", cluster=self._cluster)

    def port(self, reporter: Reporter, tracking: Tracking) -> Any:
        """Return the port over this client, in its colour."""
        from .redispy_cluster import ClusterClientRoute
        from .redispy_route import ClientRoute

        make = ClusterClientRoute if self._cluster else ClientRoute
        given = (self._client, self.settings, self._family, reporter)
        if self._awaits:
            from ..wire.waiting_aio import AioWaiting
            from .aio import AioPort

            aio = AioWaiting()
            return AioPort(make(*given, aio, awaits=True), aio, reporter, tracking)
        from ..wire.waiting import BlockingWaiting
        from .blocking import BlockingPort

        blocking = BlockingWaiting()
        return BlockingPort(make(*given, blocking, awaits=False), blocking, reporter, tracking)


def _recognised(client: Any) -> tuple[str | None, str | None]:
    """Return the package that *client* comes from, also through a subclass, and the class that decides what it is."""
    for cls in type(client).__mro__:
        family = cls.__module__.partition(".")[0]
        if family in _FAMILIES and cls.__name__ in _SINGLE | _CLUSTER | _NO_CLIENTS:
            return family, cls.__name__
    return None, None


def _is_async(client: Any) -> bool:
    modules = [cls.__module__.split(".") for cls in type(client).__mro__ if cls.__name__ in _SINGLE | _CLUSTER]
    return any("asyncio" in parts for parts in modules)


def _settings_of(client: Any, name: str, *, cluster: bool) -> Settings:
    topology: Topology = "standalone"
    path: str | None = None
    service: str | None = None
    secure = False
    hosts: tuple[tuple[str, int], ...]
    db = 0
    if cluster:
        topology = "cluster"
        hosts = tuple((str(node.host), int(node.port)) for node in client.nodes_manager.startup_nodes.values())
    else:
        pool = client.connection_pool
        options = pool.connection_kwargs
        db = int(options.get("db") or 0)
        path = options.get("path")
        secure = "SSL" in pool.connection_class.__name__
        service = getattr(pool, "service_name", None)
        sentinels = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        if service is not None:
            topology, options_of = "sentinel", [each.connection_pool.connection_kwargs for each in sentinels]
        else:
            options_of = [options]
        hosts = tuple((str(each.get("host", "localhost")), int(each.get("port", 6379))) for each in options_of)
    usual = Settings.from_url("redis://localhost")
    awaits = _is_async(client)  # one for threads keeps no time but its own
    return _ClientSettings(
        client=name,
        topology=topology,
        hosts=hosts,
        path=path,
        service=service,
        tls=secure,
        db=db,
        read_timeout=math.inf,
        cache_budget=usual.cache_budget if awaits else math.inf,
        limit_deadline=usual.limit_deadline if awaits else math.inf,
    )
