"""One server takes everything. Where it is may change: sentinels say so, or a private server that starts when it is first needed."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from ..errors import CircuitOpen, ConnectFailed, ConnectionLost, Refused, Unavailable
from .address import Address
from .call import Call
from .commands import Traits
from .gatherable import Gatherable
from .node import MakeNode, Node, Setup
from .resp import Arg, Reply
from .route import ASK_EVERY, Route
from .waiting import Waiting

__all__ = ["Fixed", "Locator", "Standalone"]


class Locator(Protocol):
    """Knows where the server is."""

    follows: bool
    """Whether the server may move, so that it is worth asking again."""

    def primary(self, known: Node | None) -> Awaitable[Node]:
        """Return the server that takes writes; *known* if that is still the one."""

    def replicas(self) -> Awaitable[list[Address]]:
        """Return the addresses of its replicas, none if they are not known."""

    def watches(self, moved: Callable[[], Awaitable[None]]) -> list[Coroutine[Any, Any, None]]:
        """Return what must run in the background, until the bay is closed, to call *moved* when the server moves."""

    def close(self) -> Awaitable[None]:
        """Close what was opened to find out."""


class Standalone(Route):
    """A route to one server, named by its URL, or by sentinels who verify that it is the primary."""

    def __init__(self, setup: Setup, make_node: MakeNode, waiting: Waiting, locator: Locator) -> None:
        super().__init__(setup, make_node, waiting)
        self._locator = locator
        self._node: Node | None = None
        self._replicas: list[Node] = []

    async def connect(self) -> None:
        """Find the server and connect, or raise `ConnectFailed`."""
        await (await self._primary(None)).connect()

    async def close(self) -> None:
        await super().close()
        await self._locator.close()

    def gather(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> Awaitable[Reply] | None:
        return None if self._node is None else self._node.gather(script, keys, key_count, words, word_count)

    def _node_of(self, _key: bytes) -> Node | None:
        return self._node

    def _node_at_once(self, _args: tuple[Arg, ...], _traits: Traits) -> Node | None:
        return self._node

    async def _primary(self, _key: Arg | None) -> Node:
        self._check_open()
        if self._node is None:
            async with self._waiting.guard(self._settings.dial_timeout):
                if self._node is None:
                    self._node = await self._locator.primary(None)
        for number, watch in enumerate(self._locator.watches(self._moved)):
            self._waiting.spawn(watch, f"forebay-watch-{number}")
        return self._node

    async def _attempt(self, call: Call) -> Reply:
        if call.replica:
            return await call.send(await self._replica())
        return await call.send(self._node or await self._primary(None))

    async def _learn(self, error: Unavailable, call: Call) -> bool:
        """A server that became a replica, or is away, has perhaps handed over to another."""
        demoted = isinstance(error, Refused) and error.code in ("READONLY", "MASTERDOWN")
        if not (demoted or isinstance(error, ConnectFailed | ConnectionLost)) or call.replica:
            return False
        if self._locator.follows:
            return await self._ask_again(call.node, 0.0 if isinstance(error, CircuitOpen) else call.left())
        if demoted and self._node is not None and self._node is call.node and time.monotonic() - self._asked_at > ASK_EVERY:
            # behind a name that may stand for another server by now
            self._asked_at = time.monotonic()
            self._replace(self._make_node(self._node.address, self._node.role, self._setup))
            return True
        return False

    async def _moved(self) -> None:
        await self._ask_again(self._node, self._settings.dial_timeout)

    async def _ask_again(self, known: Node | None, patience: float) -> bool:
        """Ask who is primary, unless somebody just did; return whether it is another node than *known*."""
        try:
            if self._node is known:
                await self._ask_anew(patience)
        except ConnectFailed:
            return False  # the caller has a failure of its own to tell
        return self._node is not known

    async def _ask(self) -> None:
        node = await self._locator.primary(self._node)
        if node is not self._node:
            self._replace(node)

    def _replace(self, new: Node) -> None:
        left = [*self._replicas, *([self._node] if self._node is not None else [])]
        self._node, self._replicas = new, []
        for node in left:
            self._leave(node)

    async def _replica(self) -> Node:
        if not self._replicas:
            async with self._waiting.guard(self._settings.dial_timeout):
                if not self._replicas:
                    addresses = await self._locator.replicas()
                    self._replicas = [self._make_node(address, "replica", self._setup) for address in addresses]
        well = [node for node in self._replicas if node.breaker.closed]
        return random.choice(well) if well else await self._primary(None)  # noqa: S311 - spreads load, guards nothing

    def _nodes(self) -> list[Node]:
        return [*([self._node] if self._node is not None else []), *self._replicas]


class Fixed:
    """The locator of one server whose address never changes; *address* may have to start it first."""

    follows = False

    def __init__(self, address: Callable[[], Address], setup: Setup, make_node: MakeNode, waiting: Waiting) -> None:
        self._address = address
        self._setup = setup
        self._make_node = make_node
        self._waiting = waiting

    async def primary(self, known: Node | None) -> Node:
        if known is not None:
            return known
        slow = self._setup.settings.topology == "embedded"
        return self._make_node(await self._waiting.run(self._address) if slow else self._address(), "any", self._setup)

    async def replicas(self) -> list[Address]:
        return []

    def watches(self, _moved: Callable[[], Awaitable[None]]) -> list[Coroutine[Any, Any, None]]:
        return []  # it never moves

    async def close(self) -> None:
        """Nothing was opened."""
