"""Sentinels are asked who is primary, and not believed: the one with the newest knowledge is tried first, and must say so itself.

The protocol is that of the Redis documentation, "Guidelines for Redis clients with support for Redis Sentinel".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from ..errors import ConnectFailed, ConnectionLost, ServerError, Unavailable
from .address import Address, mapped
from .node import MakeNode, Node, Setup, Stream
from .resilience import pause_before
from .resp import Reply, pack
from .waiting import Waiting

__all__ = ["Sentinels"]

_ASK_TIMEOUT: Final = 1.0
_WATCH: Final = "+switch-master"
_UNFIT: Final = ("s_down", "o_down", "disconnected")


class Sentinels:
    """The locator of a service that sentinels watch."""

    follows = True

    def __init__(self, setup: Setup, make_node: MakeNode, waiting: Waiting) -> None:
        settings = setup.settings
        self._setup = setup
        self._make_node = make_node
        self._waiting = waiting
        self._service = settings.service or ""
        self._where = settings.where
        self._timeout = min(_ASK_TIMEOUT, settings.dial_timeout)
        self._nodes = [make_node(Address(host, port), "sentinel", setup) for host, port in settings.hosts]

    async def primary(self, known: Node | None) -> Node:
        """Ask every sentinel; return the first of the named servers, newest knowledge first, that says itself that it is primary.

        Raises:
            ConnectFailed: no sentinel answered, none knows the service, or no server is primary.
        """
        named, causes = await self._named()
        for address in named:
            if known is not None and known.address == address and known.breaker.closed:
                return known
            node = self._make_node(address, "primary", self._setup)
            try:
                await node.connect()
            except ConnectFailed as error:
                await node.close()
                causes.append(str(error))
            else:
                return node
        raise ConnectFailed(f"{self._where}: no primary was found for service {self._service!r}: {'; '.join(causes)}")

    async def replicas(self) -> list[Address]:
        """Return the replicas that the first sentinel to answer finds fit."""
        for node in self._nodes:
            try:
                entries = await node.send(pack(("SENTINEL", "REPLICAS", self._service)), self._timeout)
            except (Unavailable, ServerError):
                continue
            return [self._address_in(fields) for fields in map(_fields, entries) if _fit(fields)]
        return []

    def watches(self, moved: Callable[[], Awaitable[None]]) -> list[Coroutine[Any, Any, None]]:
        """Listen to every sentinel for the news that the primary has changed: one may hear it a second after the others."""
        return [self._watch(node, moved) for node in self._nodes]

    async def _watch(self, node: Node, moved: Callable[[], Awaitable[None]]) -> None:
        attempt = 0
        while not self._waiting.stopped:
            stream: Stream | None = None
            try:
                stream = await node.stream(self._timeout)
                await stream.send(pack(("SUBSCRIBE", _WATCH)))
                await self._listen(stream, moved)
                attempt = 0
            except (ConnectFailed, ConnectionLost, ServerError):
                attempt += 1
                await self._waiting.sleep(pause_before(attempt + 4))
            finally:
                if stream is not None:
                    await stream.close()

    async def close(self) -> None:
        """Close the connections to the sentinels."""
        for node in self._nodes:
            await node.close()

    async def _listen(self, stream: Stream, moved: Callable[[], Awaitable[None]]) -> None:
        while not self._waiting.stopped:
            push = await stream.next(1.0)
            if push is None:
                continue
            if push[0] == b"subscribe" or (push[0] == b"message" and push[2].split(b" ")[0] == self._service.encode()):
                await moved()  # also at the start: the news may have come while nobody listened

    async def _named(self) -> tuple[list[Address], list[str]]:
        """Return the addresses that sentinels name, newest knowledge first, and why others named none."""
        replies = await self._waiting.gather([self._ask(node) for node in self._nodes])
        named: dict[Address, int] = {}
        causes = []
        for node, reply in zip(self._nodes, replies, strict=True):
            if isinstance(reply, ServerError) and "No such master" in str(reply):
                causes.append(f"sentinel {node.address} does not know this service")
            elif isinstance(reply, BaseException):
                if not isinstance(reply, Unavailable | ServerError):
                    raise reply
                causes.append(f"sentinel {node.address}: {reply}")
            else:
                fields = _fields(reply)
                address = self._address_in(fields)
                named[address] = max(named.get(address, -1), int(fields.get("config-epoch", 0)))
        return sorted(named, key=lambda address: -named[address]), causes

    async def _ask(self, node: Node) -> Reply:
        return await node.send(pack(("SENTINEL", "MASTER", self._service)), self._timeout)

    def _address_in(self, fields: Mapping[str, str]) -> Address:
        try:
            return mapped(fields["ip"], int(fields["port"]), self._setup.settings)
        except (KeyError, ValueError) as error:
            raise ConnectFailed(f"{self._where}: a sentinel answered without a readable address") from error

    def __repr__(self) -> str:
        return f"<Sentinels {self._where}>"


def _fields(reply: Any) -> dict[str, str]:
    """Return what a sentinel says of one server as text; RESP3 has it as a map, older sentinels as a flat list."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    if not isinstance(reply, dict):
        return {}
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _fit(fields: Mapping[str, str]) -> bool:
    flags = fields.get("flags", "").split(",")
    return not any(flag in flags for flag in _UNFIT) and fields.get("master-link-status", "ok") == "ok"
