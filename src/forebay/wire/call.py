"""One thing that a caller wants: a command, a pipeline or a transaction, with its deadline and what may be done about failures."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ..errors import InvalidCommand, Refused, ServerError
from ..settings import Settings
from .commands import blocks_for, check_shared, traits_of
from .hurry import hurry_of, patience_of
from .node import Node
from .resp import Arg, Reply, pack

__all__ = ["Call", "Pipeline", "Transaction"]

_ASKING: Final = pack(("ASKING",))
_MULTI: Final = pack(("MULTI",))
_EXEC: Final = pack(("EXEC",))
_DISCARD: Final = pack(("DISCARD",))


class Call:
    """A single command. ``repeatable`` says that it may be sent again although it may have run.

    It has the read timeout to be answered (less, if it is in a hurry: see `hurry`), or *timeout*, or as long as it asks
    the server to block and the read timeout beyond that. It takes a lane if it blocks, is large, or may take longer than the read timeout.
    """

    def __init__(
        self,
        commands: Sequence[tuple[Arg, ...]],
        settings: Settings,
        timeout: float | None = None,
        *,
        idempotent: bool = False,
        replica: bool = False,
    ) -> None:
        self.commands = commands
        self.packed = [pack(command) for command in commands]
        self.traits = [traits_of(command[0]) for command in commands]
        only_reads = all(traits.reads for traits in self.traits)
        self.repeatable = idempotent or only_reads
        self._check()
        blocks = max(blocks_for(traits, command) for traits, command in zip(self.traits, commands, strict=True))
        if timeout is None:
            timeout = blocks + settings.read_timeout if blocks else patience_of(hurry_of(self.packed[0]), settings)
        self.timeout = timeout
        self.deadline = time.monotonic() + self.timeout
        self.lane = blocks > 0 or self.timeout > settings.read_timeout or sum(map(len, self.packed)) > settings.large_value
        self.replica = replica
        self.asking = False
        self.node: Node | None = None  # where it was sent to last
        self.target: Node | None = None  # where a redirection sends it next
        self.spent = False  # its parts were repeated by themselves: the whole is not
        if replica and not only_reads:
            writes = next(traits.name for traits in self.traits if not traits.reads)
            raise InvalidCommand(f"{writes} writes, and a replica only reads: leave out replica=True")

    def left(self) -> float:
        """Return how many seconds are left until the deadline."""
        return math.inf if self.timeout == math.inf else self.deadline - time.monotonic()

    async def send(self, node: Node) -> Reply:
        """Send it to *node* once and return the reply.

        Raises:
            ServerError: the server refused.
            Unavailable: see `may_repeat` for what may follow.
        """
        if not (self.lane or self.asking):
            self.node = node
            return await node.send(self.packed[0], self.left())
        reply = (await self._exchange(node, self.packed))[-1]
        if isinstance(reply, ServerError):
            raise reply
        return reply

    async def _exchange(self, node: Node, packed: list[bytes]) -> list[Reply]:
        """Send *packed* in one write, behind ``ASKING`` if that is due, and return the replies to *packed*."""
        self.node = node
        if self.asking:
            packed = [_ASKING, *packed]
        replies = await (node.send_alone(packed, self.left()) if self.lane else node.send_many(packed, self.left()))
        return replies[1:] if self.asking else replies

    def _check(self) -> None:
        for traits, command in zip(self.traits, self.commands, strict=True):
            check_shared(traits, command, lone=True)


class Pipeline(Call):
    """Several commands in one write, each for itself. `send` returns the list of replies, refusals as values.

    ``asking_at`` are the places that a node which is about to take over their slot must be asked for.
    """

    asking_at: Mapping[int, Node] = MappingProxyType({})

    async def send(self, node: Node) -> Reply:
        return await self._exchange(node, self.packed)

    def _check(self) -> None:
        for traits, command in zip(self.traits, self.commands, strict=True):
            check_shared(traits, command, lone=False)


class Transaction(Call):
    """Several commands between ``MULTI`` and ``EXEC``: all run, one after the other, with nothing in between, or none does."""

    async def send(self, node: Node) -> Reply:
        if not node.may_transact:
            # Behind a refused MULTI the commands would run each for itself. Ask before the first transaction; rights rarely change.
            for reply in await self._exchange(node, [_MULTI, _DISCARD]):
                if isinstance(reply, ServerError):
                    raise reply
            node.may_transact = True
        replies = await self._exchange(node, [_MULTI, *self.packed, _EXEC])
        done = replies[-1]
        if isinstance(done, list):
            return done
        begun, *queued, _ = replies
        if isinstance(begun, ServerError) and not all(isinstance(reply, ServerError) for reply in queued):
            self.spent = True
            node.may_transact = False
            begun.add_note("MULTI was refused, and the commands behind it ran each for itself")
            raise begun
        refusals = [reply for reply in replies if isinstance(reply, ServerError)]
        raise next((refusal for refusal in refusals if isinstance(refusal, Refused)), refusals[0])

    def _check(self) -> None:
        for traits, command in zip(self.traits, self.commands, strict=True):
            check_shared(traits, command, lone=True)
            if traits.blocks:
                raise InvalidCommand(f"{traits.name} does not block in a transaction: leave it out")
        self.repeatable = False  # also one that only reads: its replies belong to one moment
