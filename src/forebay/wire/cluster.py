"""Each key's slot has one node that serves it. Redirections are followed at once, and the whole map is learnt anew behind them.

The protocol is that of the Redis cluster specification.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..errors import ConnectFailed, ConnectionLost, Redirected, Refused, ServerError, Unavailable
from .address import Address
from .call import Call, Pipeline
from .commands import EVERYWHERE, Traits, keys_of
from .node import MakeNode, Node, Setup
from .resp import Arg, Reply, pack
from .route import ASK_EVERY, Route
from .slotmap import Shard, read_redirection, read_shards
from .slots import SLOTS, common_slot, slot_of
from .splitting import Split, split
from .waiting import Waiting
from .walking import Walk

__all__ = ["Cluster"]

_ASK_TIMEOUT: Final = 1.0
_CLUSTER_SLOTS: Final = pack(("CLUSTER", "SLOTS"))
_STALE: Final = frozenset({"CLUSTERDOWN", "MASTERDOWN", "READONLY"})


class Cluster(Route):
    """A route to the nodes of a cluster: one multiplexer or pool for each."""

    def __init__(self, setup: Setup, make_node: MakeNode, waiting: Waiting) -> None:
        super().__init__(setup, make_node, waiting)
        self._known: dict[Address, Node] = {}  # primaries
        self._by_slot: list[Node | None] = [None] * SLOTS
        self._replicas: dict[Address, tuple[Address, ...]] = {}  # of each primary
        self._replica_nodes: dict[Address, Node] = {}
        self._walk = Walk()
        self._moved = False
        self._every_primary: list[Node] = []
        self._seeds = {address: make_node(address, "any", setup) for address in (Address(*host) for host in self._settings.hosts)}

    async def connect(self) -> None:
        """Learn the map from any node and connect to every primary, or raise `ConnectFailed`."""
        await self._ask_anew(self._settings.dial_timeout)
        for error in await self._waiting.gather([node.connect() for node in self._every_primary]):
            if isinstance(error, BaseException):
                raise error

    async def execute_many(
        self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None, idempotent: bool = False, replica: bool = False
    ) -> list[Reply]:
        flat: list[tuple[Arg, ...]] = []
        splits: list[Split | None] = []
        for command in commands:
            parts = split(command)
            splits.append(parts)
            flat += [command] if parts is None else parts.parts
        replies = iter(await super().execute_many(flat, timeout=timeout, idempotent=idempotent, replica=replica))
        return [next(replies) if parts is None else parts.whole([next(replies) for _ in parts.parts]) for parts in splits]

    # what a cluster knows

    def _node_of(self, key: bytes) -> Node | None:
        return self._by_slot[slot_of(key)]

    def _node_at_once(self, args: tuple[Arg, ...], traits: Traits) -> Node | None:
        at = traits.key_at
        return self._by_slot[slot_of(args[at])] if 0 < at < len(args) else None

    async def _primary(self, key: Arg | None) -> Node:
        self._check_open()
        slot = None if key is None else slot_of(key)
        node = self._serving(slot)
        if node is None:
            await self._ask_anew(self._settings.dial_timeout)
            node = self._serving(slot)
        if node is None:
            what = "any slot" if slot is None else f"slot {slot}"
            raise Refused(f"CLUSTERDOWN no node of {self._settings.where} is known to serve {what}")
        return node

    async def _attempt(self, call: Call) -> Reply:
        target, call.target = call.target, None
        if target is not None:
            return await call.send(target)
        if isinstance(call, Pipeline):
            return await self._attempt_pipeline(call)
        keys = [key for command in call.commands for key in keys_of(command)]
        if not keys:
            return await self._attempt_without_keys(call)
        parts = split(call.commands[0]) if len(call.commands) == 1 else None
        if parts is not None:
            call.spent = True
            options: dict[str, Any] = {"idempotent": call.repeatable, "replica": call.replica}
            whole = parts.whole(await super().execute_many(parts.parts, timeout=max(call.left(), 0.0), **options))
            if isinstance(whole, ServerError):
                raise whole
            return whole
        common_slot(keys, call.traits[0].name if len(call.commands) == 1 else "the transaction")
        primary = await self._primary(keys[0])
        return await call.send(self._replica_of(primary) if call.replica else primary)

    async def _learn(self, error: Unavailable, call: Call) -> bool:
        asked = call.node
        if isinstance(error, Redirected):
            call.target, call.asking = self._redirected(error, asked), error.asking
            return True
        call.asking = False
        if isinstance(error, ConnectFailed | ConnectionLost) or (isinstance(error, Refused) and error.code in _STALE):
            await self._refresh_quietly(min(max(call.left(), 0.0), self._settings.dial_timeout))
            keys = keys_of(call.commands[0])
            return asked is not None and self._serving(slot_of(keys[0]) if keys else None) is not asked
        return False

    async def _learn_places(self, refusals: Sequence[Refused], rest: Pipeline) -> None:
        asking_at: dict[int, Node] = {}
        for place, error in enumerate(refusals):
            if isinstance(error, Redirected):
                node = self._redirected(error, None)
                if error.asking:
                    asking_at[place] = node
        rest.asking_at = asking_at
        if not any(isinstance(error, Redirected) for error in refusals):
            await self._learn(refusals[0], rest)

    def _redirected(self, error: Redirected, asked: Node | None) -> Node:
        """Return the node that *error* names. If the slot has moved there, remember that, and learn the whole map behind it."""
        answered = next(iter(self._seeds)) if asked is None else asked.address
        node = self._node(read_redirection(error.node, answered, self._settings))
        if not error.asking:
            self._by_slot[error.slot % SLOTS] = node
            if self._setup.listener is not None:
                self._setup.listener.lost(None)
            if node not in self._every_primary:
                self._every_primary.append(node)
            self._moved = True
            self._waiting.spawn(self._follow_moves(), "forebay-refresh")
        return node

    def _nodes(self) -> list[Node]:
        return list(dict.fromkeys([*self._known.values(), *self._replica_nodes.values(), *self._seeds.values()]))

    # parts

    async def _attempt_pipeline(self, call: Pipeline) -> list[Reply]:
        """Send to each node what is its own, to all at the same time where the colour can."""
        groups: dict[Node, list[int]] = {}
        node: Node | None = None
        replies: list[Reply] = [None] * len(call.commands)
        for index, command in enumerate(call.commands):
            if index in call.asking_at:
                replies[index] = await self._ask_for(command, call.asking_at[index], call)
                continue
            keys = keys_of(command)
            if keys or node is None:  # what has no key goes with what it stands behind: WAIT counts on that
                common_slot(keys, call.traits[index].name)
                primary = await self._primary(keys[0] if keys else None)
                node = self._replica_of(primary) if call.replica else primary
            groups.setdefault(node, []).append(index)
        if len(groups) == 1 and not call.asking_at:
            return await call.send(next(iter(groups)))  # type: ignore[no-any-return]
        parts = [[call.commands[index] for index in indexes] for indexes in groups.values()]
        call.spent = True
        left, options = max(call.left(), 0.0), {"idempotent": call.repeatable, "replica": call.replica}
        works = [self._perform(Pipeline(part, self._settings, left, **options)) for part in parts]
        for indexes, part in zip(groups.values(), await self._waiting.gather(works), strict=True):
            if isinstance(part, BaseException):
                raise part
            for index, reply in zip(indexes, part, strict=True):
                replies[index] = reply
        return replies

    async def _ask_for(self, command: tuple[Arg, ...], node: Node, whole: Pipeline) -> Reply:
        call = Call([command], self._settings, max(whole.left(), 0.0))
        call.asking = True
        try:
            return await call.send(node)
        except ServerError as refusal:
            return refusal

    async def _attempt_without_keys(self, call: Call) -> Reply:
        name = call.traits[0].name
        await self._primary(None)  # raises, if the cluster has not been reached: none is not the same as nothing
        primaries = list(self._every_primary)
        if name == "SCAN" and len(call.commands) == 1:
            return await self._walk.step(call, primaries)
        if name not in EVERYWHERE:
            return await call.send(random.choice(primaries))  # noqa: S311 - spreads load, guards nothing
        replies = [await call.send(node) for node in primaries]
        return sum(replies) if name == "DBSIZE" else replies[0]

    # the map

    def _node(self, address: Address) -> Node:
        node = self._known.get(address)
        if node is None:
            node = self._known[address] = self._seeds.get(address) or self._make_node(address, "any", self._setup)
        return node

    def _serving(self, slot: int | None) -> Node | None:
        return self._by_slot[slot] if slot is not None else next(iter(self._every_primary), None)

    def _replica_of(self, primary: Node) -> Node:
        nodes = []
        for address in self._replicas.get(primary.address, ()):
            node = self._replica_nodes.get(address)
            if node is None:
                node = self._replica_nodes[address] = self._make_node(address, "cluster-replica", self._setup)
            if node.breaker.closed:
                nodes.append(node)
        return random.choice(nodes) if nodes else primary  # noqa: S311 - spreads load, guards nothing

    async def _follow_moves(self) -> None:
        """Learn the map behind a redirection, and again behind those that come meanwhile."""
        while self._moved and not self._waiting.stopped:
            self._moved = False
            await self._waiting.sleep(ASK_EVERY * 1.1)
            await self._refresh_quietly()

    async def _refresh_quietly(self, patience: float = _ASK_TIMEOUT) -> None:
        try:
            await self._ask_anew(patience)
        except ConnectFailed:
            return  # the caller has a failure of its own to tell

    async def _ask(self) -> None:
        causes = []
        nodes = list({**self._seeds, **self._known}.values())
        random.shuffle(nodes)
        timeout = min(_ASK_TIMEOUT, self._settings.dial_timeout)
        for node in sorted(nodes, key=lambda node: not node.breaker.closed):
            try:
                shards = read_shards(await node.send(_CLUSTER_SLOTS, timeout), node.address, self._settings)
            except Unavailable as error:
                causes.append(f"{node.address}: {error}")
            except ServerError as error:
                causes.append(f"{node.address}: {error}" + ("; it is no cluster: use redis://" if "cluster support" in str(error) else ""))
            else:
                if shards:
                    return self._apply(shards)
                causes.append(f"{node.address} serves no slots")
        raise ConnectFailed(f"{self._settings.where}: no node could say who serves what: {'; '.join(causes)}")

    def _apply(self, shards: Iterable[Shard]) -> None:
        by_slot: list[Node | None] = [None] * SLOTS
        replicas: dict[Address, tuple[Address, ...]] = {}
        for first, last, primary, behind in shards:
            by_slot[first : last + 1] = [self._node(primary)] * (last + 1 - first)
            replicas[primary] = behind
        listener = self._setup.listener
        if listener is not None and any(old is not None and old is not new for old, new in zip(self._by_slot, by_slot, strict=True)):
            listener.lost(None)  # who tells of a key in a slot that moved is another node
        self._by_slot, self._replicas = by_slot, replicas
        self._every_primary = [self._node(address) for address in replicas]
        every = {address for addresses in replicas.values() for address in addresses}
        for kept, nodes in ((replicas.keys(), self._known), (every, self._replica_nodes)):
            for address in [address for address in nodes if address not in kept]:
                node = nodes.pop(address)
                if address not in self._seeds or node is not self._seeds[address]:
                    self._leave(node)
