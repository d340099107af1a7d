"""From a call to the node that can answer it, again and again where that is safe, within the caller's deadline.

The topologies are its subclasses: they know which node that is, and how to learn better.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final
from weakref import WeakSet

from ..errors import CircuitOpen, Closed, OutcomeUnknown, Redirected, Refused, Unavailable
from ..settings import Settings
from .call import Call, Pipeline, Transaction
from .commands import Traits, traits_of
from .gatherable import Gatherable
from .node import Asked, MakeNode, Node, Setup, Stream
from .resilience import may_repeat, pause_before
from .resp import Arg, Reply, pack
from .stats import WireStats
from .waiting import Waiting

__all__ = ["ASK_EVERY", "Route"]

_AT_ONCE: Final = 5  # redirections are followed without a pause so many times
ASK_EVERY: Final = 0.05  # seconds


class Route:
    """What a port sends commands through, in either colour. ``tells``: it can tell of changed keys."""

    tells = True

    def __init__(self, setup: Setup, make_node: MakeNode, waiting: Waiting) -> None:
        self._setup = setup
        self._settings = setup.settings
        self._large = setup.settings.large_value
        self._make_node = make_node
        self._waiting = waiting
        self._retries = 0
        self._refreshes = 0
        self._asked_at = 0.0
        self._closed = False
        self._leaving: list[Node] = []
        self._streams: WeakSet[Stream] = WeakSet()

    async def execute(self, *args: Arg, timeout: float | None = None, idempotent: bool = False, replica: bool = False) -> Reply:
        """Send one command and return its reply.

        Args:
            timeout: seconds for everything: waiting, sending, the reply, repeating. Default: the read timeout.
            idempotent: running twice does no harm, so it may be repeated when its outcome is unknown. What only reads always is.
            replica: a replica may answer, with what may be old.

        Raises:
            InvalidCommand, CrossSlot: it cannot be sent.
            OutcomeUnknown: it may or may not have run.
            Unavailable: it did not run, see its subclasses for why.
            ServerError: the server refused.
        """
        if timeout is not None or replica:
            return await self._perform(Call([args], self._settings, timeout, idempotent=idempotent, replica=replica))
        try:
            return await self.send(*args)
        except Unavailable as error:
            return await self.again(error, args, idempotent=idempotent)

    def send(self, *args: Arg) -> Awaitable[Reply]:
        """Send one command, and only once: await what is returned, and hand what is `Unavailable` to `again`.

        This is the short way that every command takes first: on asyncio it is a future of the connection, and no coroutine.
        """
        packed = pack(args)
        traits = traits_of(args[0])
        if traits.plain and len(packed) <= self._large:
            node = self._node_at_once(args, traits)
            if node is not None:
                return node.send(packed)
        return self._perform(Call([args], self._settings))

    def get(self, name: str) -> Awaitable[Reply]:
        """``send("get", name)``, shorter still: most of what a cache does is this. In lower case: it is in a hurry."""
        key = name.encode()
        node = self._node_of(key)
        if node is None:
            return self._perform(Call([("get", key)], self._settings))
        return node.send(b"*2\r\n$3\r\nget\r\n$%d\r\n%b\r\n" % (len(key), key))

    def pair(self, key: bytes, first: bytes, second: bytes) -> tuple[Asked, Asked] | None:
        """Send two packed reads of *key*'s slot now, once, in one write; return what brings their replies, or None where that cannot be.

        What they raise goes to `read_again`, where they are `Unavailable`.
        """
        node = self._node_of(key)
        return None if node is None else node.send_pair(first, second)

    def gather(self, _script: Gatherable, _keys: bytes, _key_count: int, _words: bytes, _word_count: int) -> Awaitable[Reply] | None:
        """Add a record to the call of a script that all who make it in this tick make together, once; return what brings its own reply.

        None where that cannot be: it is made alone then. What is raised is not repeated here.
        """
        return None

    async def read_again(self, error: Unavailable, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        """Send reads again after *error*, where that may help; or raise it. Raises as `execute`."""
        if not may_repeat(error, repeatable=True):
            raise error
        return await self.execute_many(commands)

    async def track(self, key: bytes, commands: Sequence[tuple[Arg, ...]], *, told: bool = True) -> tuple[list[Reply], object | None]:
        """Send reads of *key* in one write, and have the server tell when what the first one reads changes, if we are to be *told*.

        Returns:
            The replies, refusals as values, and the connection that carried them; None if it tells of nothing.

        Raises:
            Unavailable: there are no replies.
        """
        node = self._node_of(key)
        if node is not None:
            try:
                replies, source = await node.send_tracked([pack(command) for command in commands], self._settings.hurry, told=told)
                if not any(isinstance(reply, Refused) for reply in replies):
                    return replies, source
            except Unavailable as error:
                return await self.read_again(error, commands), None
        return await self.execute_many(commands), None

    async def again(self, error: Unavailable, args: tuple[Arg, ...], *, idempotent: bool = False) -> Reply:
        """Do what is right after `send` failed with *error*: repeat, or raise it. Raises as `execute`."""
        if error.final and not (idempotent and isinstance(error, OutcomeUnknown)):
            raise error
        call = Call([args], self._settings, idempotent=idempotent)
        call.deadline -= error.waited
        call.node = self._node_at_once(args, call.traits[0])
        return await self._again(call, error)

    async def execute_many(
        self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None, idempotent: bool = False, replica: bool = False
    ) -> list[Reply]:
        """Send several commands in one write (to each node); refusals by the server stand in the list as `ServerError` values.

        What a server did not take for the moment is sent again, in order. Raises as `execute`.
        """
        if not commands:
            return []
        call = Pipeline(commands, self._settings, timeout, idempotent=idempotent, replica=replica)
        replies: list[Reply] = await self._perform(call)
        attempt = 0
        while True:
            again = [index for index, reply in enumerate(replies) if isinstance(reply, Refused) and may_repeat(reply, repeatable=True)]
            if not again:
                return replies
            attempt += 1
            options: dict[str, Any] = {"timeout": max(call.left(), 0.0), "idempotent": idempotent, "replica": replica}
            rest = Pipeline([commands[index] for index in again], self._settings, **options)
            await self._learn_places([replies[index] for index in again], rest)
            if not await self._pause_before(attempt, replies[again[0]], call):
                return replies
            for index, reply in zip(again, await self._perform(rest), strict=True):
                replies[index] = reply

    async def transaction(self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None) -> list[Reply]:
        """Run several commands as one, between ``MULTI`` and ``EXEC``; errors while they ran stand in the list as values.

        Raises:
            ServerError: a command was not even queued, and none ran.
            OutcomeUnknown: all ran, or none did. A transaction is never repeated after that.
            InvalidCommand, CrossSlot, Unavailable: as for `execute`.
        """
        if not commands:
            return []
        replies: list[Reply] = await self._perform(Transaction(commands, self._settings, timeout))
        return replies

    async def stream(self, key: Arg | None = None, patience: float | None = None) -> Stream:
        """Open a connection for pushes, to the node that holds *key*, within *patience* seconds (default: the dial timeout)."""
        limit = self._settings.dial_timeout if patience is None else min(patience, self._settings.dial_timeout)
        stream = await (await self._primary(key)).stream(limit)
        self._streams.add(stream)
        return stream

    async def connect(self) -> None:
        """Find the server and connect, or raise `ConnectFailed`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let what is in flight finish, and close every connection."""
        self._closed = True
        for stream in list(self._streams):
            await stream.close()
        await self._waiting.stop()
        for error in await self._waiting.gather([node.close() for node in [*self._nodes(), *self._leaving]]):
            if isinstance(error, BaseException):
                raise error

    def stats(self) -> WireStats:
        """Return counts of connections and commands, for each node and together."""
        return WireStats.of((node.stats() for node in self._nodes()), self._setup.latencies.stats(), self._retries, self._refreshes)

    @property
    def settings(self) -> Settings:
        """The settings of the bay."""
        return self._settings

    # what a topology knows

    def _node_of(self, key: bytes) -> Node | None:
        """Return the node that holds *key*, or None if it takes more than that to find."""
        raise NotImplementedError

    def _node_at_once(self, _args: tuple[Arg, ...], _traits: Traits) -> Node | None:
        """Return the node for a plain command, or None if it takes more than that to find."""
        raise NotImplementedError

    async def _primary(self, _key: Arg | None) -> Node:
        """Return the node that takes writes to a key."""
        raise NotImplementedError

    async def _attempt(self, call: Call) -> Reply:
        """Send *call* once to where it belongs."""
        raise NotImplementedError

    async def _learn(self, error: Unavailable, call: Call) -> bool:
        """Find out what *error* says about the topology; return whether *call* belongs elsewhere now."""
        raise NotImplementedError

    async def _learn_places(self, refusals: Sequence[Refused], rest: Pipeline) -> None:
        """Do as `_learn` for each place of a pipeline that was refused, before *rest*, which they are now, is sent."""
        await self._learn(refusals[0], rest)

    async def _ask(self) -> None:
        """Ask who serves what, and go by that from now on, or raise `ConnectFailed`."""
        raise NotImplementedError

    async def _ask_anew(self, patience: float) -> None:
        """Do `_ask`, one caller at a time, unless somebody just did.

        Raises:
            ConnectFailed: nobody could tell, or it was not this caller's turn within *patience* seconds.
        """
        known = self._asked_at
        async with self._waiting.guard(patience):
            if self._asked_at == known and time.monotonic() - known > ASK_EVERY:
                self._refreshes += 1
                try:
                    await self._ask()
                finally:
                    self._asked_at = time.monotonic()

    def _nodes(self) -> list[Node]:
        raise NotImplementedError

    def _leave(self, node: Node) -> None:
        """Close a node that is not used any more, in the background; what is in flight on it may finish."""
        self._leaving.append(node)
        self._waiting.spawn(self._close_left(node), f"forebay-leave-{id(node)}")

    async def _close_left(self, node: Node) -> None:
        await node.close()
        self._leaving.remove(node)

    # again and again

    async def _perform(self, call: Call) -> Any:
        try:
            return await self._attempt(call)
        except Unavailable as error:
            return await self._again(call, error)

    async def _again(self, call: Call, error: Unavailable) -> Any:
        attempt = 0
        while not call.spent:
            moved = await self._learn(error, call)
            if not (may_repeat(error, repeatable=call.repeatable) or (moved and isinstance(error, CircuitOpen))):
                break
            attempt += 1
            if not await self._pause_before(attempt, error, call):
                break
            try:
                return await self._attempt(call)
            except Unavailable as another:
                if isinstance(error, Refused) and not isinstance(another, OutcomeUnknown | Refused) and call.left() <= 0:
                    break  # what the server said tells more than that there was no time left
                error = another
        error.final = True
        raise error

    async def _pause_before(self, attempt: int, error: Unavailable, call: Call) -> bool:
        """Pause before *call* is sent again; False if there is no time left for that."""
        pause = 0.0 if isinstance(error, Redirected) and attempt <= _AT_ONCE else pause_before(attempt)
        self._check_open()
        if call.left() <= pause:
            return False
        if pause:
            await self._waiting.sleep(pause)
        if call.left() <= 0:
            return False
        self._retries += 1
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this bay is closed; open a new one")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.where}>"
