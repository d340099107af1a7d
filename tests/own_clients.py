"""Clients of redis-py and valkey-py for tests, from those of the two packages that are installed, and how they look from outside."""

from __future__ import annotations

import copy
import importlib
import inspect
from importlib.util import find_spec
from typing import Any, NamedTuple

from forebay import AsyncForebay, Forebay

__all__ = ["BOTH", "FAMILIES", "KINDS", "Kind", "appearance", "ended", "result"]

FAMILIES = [name for name in ("redis", "valkey") if find_spec(name)]


class Kind(NamedTuple):
    """One way of making a client."""

    family: str
    colour: str
    protocol: int = 2
    decodes: bool = False

    def __str__(self) -> str:
        return f"{self.colour} over {self.family}-py, RESP{self.protocol}{', decoding' if self.decodes else ''}"

    @property
    def module(self) -> Any:
        return importlib.import_module(self.family if self.colour == "threads" else f"{self.family}.asyncio")

    @property
    def patient(self) -> dict[str, Any]:
        """The options of a client that repeats nothing, so that a test of an outage need not wait."""
        backoff = importlib.import_module(f"{self.family}.backoff").NoBackoff()
        home = f"{self.family}.retry" if self.colour == "threads" else f"{self.family}.asyncio.retry"
        return {"retry": importlib.import_module(home).Retry(backoff, 0)}

    def client(self, url: str, **options: Any) -> Any:
        """Return a client of one server."""
        return self.module.Redis.from_url(url, **self.options(**options))

    def options(self, **options: Any) -> dict[str, Any]:
        return {"protocol": self.protocol, "decode_responses": self.decodes, **options}

    def cluster(self, port: int, **options: Any) -> Any:
        """Return a client of a cluster."""
        made = getattr(self.module, "RedisCluster" if self.family == "redis" else "ValkeyCluster")
        return made(host="127.0.0.1", port=port, **self.options(**options))

    def bay(self, client: Any, **options: Any) -> Any:
        """Return a bay over *client*, in its colour."""
        return (Forebay if self.colour == "threads" else AsyncForebay)(client=client, **options)


KINDS = [
    Kind(family, colour, protocol, decodes)
    for family in FAMILIES
    for colour in ("asyncio", "threads")
    for protocol, decodes in ((2, False), (3, True))
] + [Kind(FAMILIES[0], colour, protocol, decodes) for colour in ("asyncio", "threads") for protocol, decodes in ((2, True), (3, False))]

BOTH = [Kind(family, colour) for family in FAMILIES for colour in ("asyncio", "threads")]


async def result(value: Any) -> Any:
    """Return *value*, awaited if that is due."""
    return await value if inspect.isawaitable(value) else value


async def ended(client: Any) -> None:
    """Close *client*, as its owner does."""
    await result(getattr(client, "aclose", client.close)())


def appearance(client: Any) -> Any:
    """Return what must be the same before and after a bay used *client*."""
    seen = {name: value for name, value in vars(client).items() if isinstance(value, str | int | bool | float | type(None))}
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        encoder = pool.get_encoder()
        seen["pool"] = (pool.connection_class, pool.max_connections, {name: id(value) for name, value in pool.connection_kwargs.items()})
        seen["encoder"] = (encoder.encoding, encoder.encoding_errors, encoder.decode_responses)
    for name in ("response_callbacks", "cluster_response_callbacks", "result_callbacks", "command_flags"):
        seen[name] = copy.copy(dict(getattr(client, name, {})))
    return seen
