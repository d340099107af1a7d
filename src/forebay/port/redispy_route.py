"""Commands through a client that is the user's: it is neither changed nor closed, and it alone decides what is repeated."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from inspect import isawaitable
from typing import Any, Final

from ..errors import Closed, ConnectFailed, ForebayError, Refused, ServerError, SettingsError, Unavailable
from ..events import Reporter
from ..settings import Settings
from ..wire.address import Address
from ..wire.call import Call, Pipeline, Transaction
from ..wire.commands import Traits, traits_of
from ..wire.handshake import Role
from ..wire.latency import Latencies
from ..wire.node import Node, Setup, Stream
from ..wire.resp import Arg, Reply
from ..wire.route import Route
from ..wire.stats import Counts, NodeStats, WireStats
from ..wire.waiting import Waiting
from .port import raise_refusal
from .redispy_replies import RAW, Errors, shaped, spoken
from .redispy_stream import ClientStream

__all__ = ["ClientRoute", "counted", "settled", "shaped_all"]

_MULTI: Final = ("MULTI",)
_EXEC: Final = ("EXEC",)
_DISCARD: Final = ("DISCARD",)
_SCRIPTS: Final = frozenset({"EVAL ", "EVALSHA ", "EVALSHA_RO ", "EVAL_RO ", "FCALL ", "FCALL_RO "})


class ClientRoute(Route):
    """A route over a client of one server, also one that a Sentinel finds. One text for both colours: what can be awaited is.

    Nothing is repeated here: the client's own retries stand, and its ``socket_timeout`` is the default for every call.
    ``timeout=`` bounds a call on asyncio, with all that the client repeats; for threads it cannot be kept, and is refused.
    ``idempotent=`` and ``replica=`` are permissions, and not used. Replies are bytes, whatever the client's
    ``decode_responses``, in the shapes of RESP3; over a client that speaks RESP2 only common commands get those, and others
    keep RESP2's (a map is a flat list, a double and a boolean are bytes and an integer).
    """

    tells = False

    def __init__(self, client: Any, settings: Settings, family: str, reporter: Reporter, waiting: Waiting, *, awaits: bool) -> None:
        super().__init__(Setup(settings, reporter, Latencies(), None), _no_node, waiting)
        self._client = client
        self._family = family
        self._awaits = awaits
        self._errors = Errors(family, settings.where)
        self._calls: set[object] = set()  # changes whole, also with many threads
        self._may_transact: set[str] = set()  # nodes that were seen to take MULTI
        self._listening: set[ClientStream] = set()

    async def execute_many(
        self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None, idempotent: bool = False, replica: bool = False
    ) -> list[Reply]:
        """Send several commands through a pipeline of the client; refusals stand in the list as values. Raises as `execute`."""
        if not commands:
            return []
        replies: list[Reply] = await self._perform(Pipeline(commands, self._settings, timeout, idempotent=idempotent, replica=replica))
        return replies

    async def connect(self) -> None:
        """Ask the client for a sign of life, or raise `ConnectFailed`."""
        try:
            await self.execute("PING")
        except ConnectFailed:
            raise
        except (ServerError, Unavailable) as error:  # nothing is unknown about a PING
            raise ConnectFailed(f"{self._settings.where} does not answer: {error}") from error

    async def stream(self, key: Arg | None = None, _patience: float | None = None) -> Stream:
        """Open a connection for messages, made as the client makes its own."""
        self._check_open()
        kind, options = await self._connecting(key)
        stream = ClientStream(kind, options, settled, self._errors, self._listening.discard, awaits=self._awaits)
        await stream.open()
        self._listening.add(stream)
        return stream

    async def close(self) -> None:
        """Close what is ours: the connections for messages. The client stays as it is."""
        await super().close()
        for stream in list(self._listening):
            await stream.close()

    def stats(self) -> WireStats:
        """Return what can be known from outside of the client: its connections, and what is in flight through this bay."""
        return WireStats.of(self._servers(), self._setup.latencies.stats())

    # once for each call

    async def _again(self, _call: Call, error: Unavailable) -> Any:
        raise error

    async def _perform(self, call: Call) -> Any:
        self._check_open()
        began = time.monotonic()
        mine = object()
        self._calls.add(mine)
        try:
            async with self._bound(call.timeout):
                return await self._attempt(call)
        except ForebayError:  # already ours, though DeadlineExceeded is an OSError too
            raise
        except self._errors.caught as error:
            raise self._errors.translated(error) from error
        finally:
            self._calls.discard(mine)
            if type(call) is Call:
                self._setup.latencies.record(call.traits[0].name, time.monotonic() - began)

    def _bound(self, timeout: float) -> AbstractAsyncContextManager[Any]:
        if timeout == math.inf:
            return nullcontext()
        if not self._awaits:
            raise SettingsError(
                "timeout= cannot be kept over a client for threads: set socket_timeout on the client, or open the bay with a url"
            )
        import asyncio

        return asyncio.timeout(timeout)

    async def _attempt(self, call: Call) -> Reply:
        if isinstance(call, Transaction):
            return await self._transact(call.commands)
        if isinstance(call, Pipeline):
            return await self._pipe(call.commands)
        return await self._one(call.commands[0])

    # what differs in a cluster

    async def _one(self, args: tuple[Arg, ...]) -> Reply:
        name, rest = spoken(args)
        return self._received(name, await settled(self._client.execute_command(name, *rest, **RAW)))

    async def _pipe(self, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        return shaped_all(commands, await self._piped(self._client, commands))

    async def _transact(self, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        return await self._begun("", commands, partial(self._piped, self._client))

    async def _connecting(self, _key: Arg | None) -> tuple[type[Any], dict[str, Any]]:
        pool = self._client.connection_pool
        return pool.connection_class, pool.connection_kwargs

    def _servers(self) -> list[NodeStats]:
        return [counted(self._client.connection_pool, self._settings.where, len(self._calls))]

    # shared with it

    def _received(self, name: str, reply: Reply) -> Reply:
        return self._errors.deep(reply) if name in _SCRIPTS else shaped(name, reply)

    async def _piped(self, client: Any, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        """Send *commands* in one write and return all replies as they are, refusals among them."""
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            name, rest = spoken(command)
            pipeline.execute_command(name, *rest, **RAW)
        return self._errors.values(await settled(pipeline.execute(raise_on_error=False)))

    async def _begun(
        self, node: str, commands: Sequence[tuple[Arg, ...]], send: Callable[[Sequence[tuple[Arg, ...]]], Awaitable[list[Reply]]]
    ) -> list[Reply]:
        """*Send* the commands of a transaction to *node* between ``MULTI`` and ``EXEC``; return what they replied.

        Raises:
            ServerError: none of them ran; of all refusals the one that says most.
        """
        if node not in self._may_transact:
            # Behind a refused MULTI the commands would run each for itself. Ask before the first transaction; rights rarely change.
            raise_refusal(await send([_MULTI, _DISCARD]))
            self._may_transact.add(node)
        replies = await send([_MULTI, *commands, _EXEC])
        done = replies[-1]
        if isinstance(done, list):
            return shaped_all(commands, done)
        begun, *queued, _ = replies
        if isinstance(begun, ServerError) and not all(isinstance(reply, ServerError) for reply in queued):
            self._may_transact.discard(node)
            begun.add_note("MULTI was refused, and the commands behind it ran each for itself")
            raise begun
        refusals = [reply for reply in replies if isinstance(reply, ServerError)]
        raise next((refusal for refusal in refusals if isinstance(refusal, Refused)), refusals[0])

    # the client has nodes, we have none

    def _nodes(self) -> list[Node]:
        return []

    def _node_of(self, _key: bytes) -> Node | None:
        return None

    def _node_at_once(self, _args: tuple[Arg, ...], _traits: Traits) -> Node | None:
        return None

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this bay is closed; the client is not: open a new bay over it")


def shaped_all(commands: Sequence[tuple[Arg, ...]], replies: Sequence[Reply]) -> list[Reply]:
    """Return the replies to *commands* in the shapes of RESP3."""
    return [shaped(f"{traits_of(command[0]).name} ", reply) for command, reply in zip(commands, replies, strict=True)]


async def settled(value: Any) -> Any:
    """Return *value*, awaited if it is a client for asyncio that gave it."""
    return await value if isawaitable(value) else value


def counted(pool: Any, address: str, in_flight: int) -> NodeStats:
    """Return the connections of one *pool*. What a client does not tell is 0."""
    idle = [each for name in ("_available_connections", "_free") for each in getattr(pool, name, ())]
    every = getattr(pool, "_connections", None)
    connections = len(idle) + len(getattr(pool, "_in_use_connections", ())) if every is None else len(every)
    known = {"connections": connections, "idle": len(idle), "in_flight": in_flight}
    return NodeStats(**dict.fromkeys(Counts.__struct_fields__, 0) | known, address=address, role="any", breaker="closed")


def _no_node(address: Address, _role: Role, _setup: Setup) -> Node:
    raise NotImplementedError(f"the client itself connects to {address}")
