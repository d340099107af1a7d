"""Commands through a cluster client of the user's. It knows the slots and follows redirections; we split what spans several slots."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct

from ..errors import Redirected, Refused, ServerError, Unavailable
from ..settings import Settings
from ..wire.address import Address
from ..wire.call import Call
from ..wire.commands import EVERYWHERE, keys_of, traits_of
from ..wire.resp import Arg, Reply
from ..wire.slots import common_slot
from ..wire.splitting import split
from ..wire.stats import NodeStats
from ..wire.walking import Walk
from .redispy_replies import RAW, spoken, words_of
from .redispy_route import ClientRoute, counted, settled, shaped_all

__all__ = ["ClusterClientRoute"]

_KNOWN_BY_CLIENTS: Final = frozenset({"EVAL ", "EVALSHA "})  # any other name is looked up without regard to the space behind it
_MOVES: Final = 3


class ClusterClientRoute(ClientRoute):
    """A route over ``RedisCluster`` and its twins. Reads go to primaries, as on Forebay's own wire."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._walk = Walk()

    async def _one(self, args: tuple[Arg, ...]) -> Reply:
        keys = keys_of(args)
        if not keys:
            return await self._without_keys(args)
        parts = split(args)
        if parts is not None:
            whole = parts.whole(await self._piped(self._client, parts.parts))
            if isinstance(whole, ServerError):
                raise whole
            return whole
        common_slot(keys, traits_of(args[0]).name)
        return await self.send_to(args)

    async def _pipe(self, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        splits = [split(command) for command in commands]
        flat = [part for command, parts in zip(commands, splits, strict=True) for part in ([command] if parts is None else parts.parts)]
        replies = iter(await self._piped(self._client, flat))
        whole = [next(replies) if parts is None else parts.whole([next(replies) for _ in parts.parts]) for parts in splits]
        return shaped_all(commands, whole)

    async def _piped(self, client: Any, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        primaries = await self._primaries()
        target: Any = random.choice(primaries)  # noqa: S311 - spreads load, guards nothing
        said = [self._said(command) for command in commands]
        pipeline = client.pipeline()
        for command, (name, rest) in zip(commands, said, strict=True):
            keys = keys_of(command)
            if keys:
                common_slot(keys, traits_of(command[0]).name)
                target = client.get_node_from_key(_key(keys[0]))
                pipeline.execute_command(name, *rest, **RAW)
            else:  # it goes with what it stands behind: WAIT counts on that
                pipeline.execute_command(name, *rest, **RAW, target_nodes=[target])
        return self._errors.values(await settled(pipeline.execute(raise_on_error=False)))

    async def _transact(self, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        keys = [_key(key) for command in commands for key in keys_of(command)]
        common_slot(keys, "the transaction")
        primaries = await self._primaries()
        if not keys:
            node = random.choice(primaries)  # noqa: S311 - spreads load, guards nothing
            return await self._begun(node.name, commands, partial(self._on, node))
        for moves in range(_MOVES):
            node = self._client.get_node_from_key(keys[0])
            try:
                return await self._begun(node.name, commands, partial(self._on, node))
            except Redirected as error:  # nothing ran
                await self._teach(keys[0])
                if error.asking or moves == _MOVES - 1:
                    raise
            except Unavailable:
                await self._teach(keys[0])
                raise
            except self._errors.caught as error:
                await self._teach(keys[0])
                raise self._errors.translated(error) from error
        raise AssertionError("unreachable")

    async def _connecting(self, key: Arg | None) -> tuple[type[Any], dict[str, Any]]:
        primaries = await self._primaries()
        node = random.choice(primaries) if key is None else self._client.get_node_from_key(_key(key))  # noqa: S311
        pool = node if self._awaits else self._single(node).connection_pool
        return pool.connection_class, pool.connection_kwargs

    def _servers(self) -> list[NodeStats]:
        every: list[NodeStats] = []
        for node in self._client.get_nodes():
            pool = node if self._awaits else getattr(getattr(node, f"{self._family}_connection"), "connection_pool", None)
            every.append(counted(pool, node.name, 0 if every else len(self._calls)))
        return every

    # parts

    async def _without_keys(self, args: tuple[Arg, ...]) -> Reply:
        name = traits_of(args[0]).name
        primaries = await self._primaries()
        if name == "SCAN":
            named: list[Any] = [_Primary(Address(node.host, node.port), node) for node in primaries]
            return await self._walk.step(_Step(self, self._settings, args), named)
        if name not in EVERYWHERE:
            return await self.send_to(args, random.choice(primaries))  # noqa: S311 - spreads load, guards nothing
        replies = [await self.send_to(args, node) for node in primaries]
        return sum(replies) if name == "DBSIZE" else replies[0]

    async def send_to(self, args: tuple[Arg, ...], node: Any = None) -> Reply:
        """Send one command where the client finds its key to belong, or to *node*."""
        name, rest = self._said(args)
        target = {} if node is None else {"target_nodes": [node]}
        reply = await settled(self._client.execute_command(name, *rest, **RAW, **target))
        return self._received(spoken(args)[0], reply)

    async def _on(self, node: Any, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        """Send *commands* to one node, in one write, and return all replies."""
        if not self._awaits:
            return await super()._piped(self._single(node), commands)
        queued = [_Queued(spoken(command)) for command in commands]
        await node.execute_pipeline(queued)
        return self._errors.values([each.result for each in queued])

    def _single(self, node: Any) -> Any:
        """Return the client for threads that the cluster client has for one node."""
        return getattr(self._client, f"get_{self._family}_connection")(node)

    def _said(self, args: tuple[Arg, ...]) -> tuple[str, list[bytes]]:
        """Return a command in words that cluster clients find the key of."""
        name, rest = spoken(args)
        if traits_of(args[0]).key_at == 2 and rest:
            return f"{name}{rest[0].decode('ascii', 'replace').upper()} ", rest[1:]
        if name in _KNOWN_BY_CLIENTS and name.strip() not in self._callbacks():
            return name.strip(), rest
        return name, rest

    def _callbacks(self) -> Any:
        return self._client.response_callbacks if self._awaits else self._client.cluster_response_callbacks

    async def _primaries(self) -> list[Any]:
        if self._awaits:
            await self._client.initialize()  # at once, unless the client has to learn the slots
        primaries: list[Any] = self._client.get_primaries()
        if not primaries:
            raise Refused(f"CLUSTERDOWN {self._settings.where}: the client knows no primary")
        return primaries

    async def _teach(self, key: Arg) -> None:
        """Let the client meet the redirection or failure itself, with a harmless read: it then looks for the slots anew."""
        try:
            await settled(self._client.execute_command("EXISTS", key))
        except self._errors.caught:
            return  # the caller has a failure of its own to tell


class _Queued:
    """What asyncio's ``ClusterNode.execute_pipeline`` takes and fills in."""

    def __init__(self, said: tuple[str, list[bytes]]) -> None:
        self.args = (said[0], *said[1])
        self.kwargs = dict(RAW)
        self.result: Any = None


class _Primary(Struct, frozen=True):
    address: Address
    node: Any


class _Step(Call):
    """One ``SCAN`` of a walk; `Walk.step` puts the node's own cursor in."""

    def __init__(self, route: ClusterClientRoute, settings: Settings, args: tuple[Arg, ...]) -> None:
        super().__init__([args], settings)
        self._route = route

    async def send(self, node: Any) -> Reply:
        return await self._route.send_to(tuple(words_of(self.packed[0])), node.node)


def _key(key: Arg) -> bytes:
    return bytes(key) if isinstance(key, bytes | memoryview) else str(key).encode()
