"""While slots move, nodes come, go and die, no caller gets a wrong reply, and none an error that could have been avoided."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from forebay import OutcomeUnknown, Unavailable
from tests.clusters import ClusterNode, ClusterSet, Step
from tests.servers import caught_up
from tests.topology.load import Load, called, check_read, eventually, script, under_load

MORE = 1.0  # seconds that the bay may take longer than the cluster
UNDISTURBED = 1.5  # seconds; a caller that has to do with a node that is away would wait longer
SET_AND_GET = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"


class Moving:
    """Three keys of one slot, and the slot stopped when one of them has gone to *target*."""

    def __init__(self, cluster: ClusterSet, prefix: str) -> None:
        self.keys = [f"{{{prefix}}}:{number}" for number in range(3)]
        self.slot = cluster.slot_of(self.keys[0])
        self.source = cluster.owner(self.slot)
        self.target = next(node for node in cluster.masters() if node is not self.source)
        for key in self.keys:
            self.source.call("SET", key, key)
        self._cluster = cluster
        self._steps: Iterator[Step] = cluster.moving(self.slot, self.target, at_once=1)

    def begin(self) -> None:
        stayed = set(self.keys)
        while stayed == set(self.keys):  # keys of other tests may be in the slot too, and go first
            assert next(self._steps) in ("importing", "migrating", "moved a key")
            stayed &= set(self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, 100))
        [self.gone] = set(self.keys) - stayed
        self.stayed = min(stayed)

    def finish(self) -> None:
        for _ in self._steps:
            pass

    def undo(self) -> None:
        self.finish()
        self._cluster.move_slot(self.slot, self.source)


@pytest.fixture
def moving(cluster: ClusterSet, prefix: str) -> Iterator[Moving]:
    made = Moving(cluster, prefix)
    yield made
    made.undo()


def refusals(node: ClusterNode, code: str) -> int:
    """Return how many commands *node* has answered with the error *code*."""
    return int(node.info("errorstats").get(f"errorstat_{code}", "count=0").partition("=")[2])


async def test_ask_is_followed_for_once(cluster: ClusterSet, moving: Moving, make_either: Any) -> None:
    bay = await make_either(cluster.url).connect()
    moving.begin()
    asked, moved = refusals(moving.source, "ASK"), refusals(moving.target, "MOVED")
    for _ in range(3):
        assert await bay.execute("GET", moving.gone) == moving.gone.encode()
    assert await bay.execute("GET", moving.stayed) == moving.stayed.encode()
    assert refusals(moving.source, "ASK") == asked + 3  # asked at the source every time: ASK does not change the map
    new = f"{moving.stayed}:new"
    assert await bay.execute("SET", new, "new") == b"OK"
    assert refusals(moving.source, "ASK") == asked + 4
    assert refusals(moving.target, "MOVED") == moved  # ASKING went along each time
    replies = await bay.pipeline([("GET", key) for key in (moving.stayed, moving.gone, new)])
    assert replies == [moving.stayed.encode(), moving.gone.encode(), b"new"]
    assert await script(bay, SET_AND_GET, [moving.gone], ["again"]) == b"again"
    assert await bay.transaction([("SET", moving.gone, "once"), ("GET", moving.gone)]) == [b"OK", b"once"]


async def test_tryagain_is_tried_again_until_the_keys_have_moved(cluster: ClusterSet, moving: Moving, make_either: Any) -> None:
    bay = await make_either(cluster.url).connect()
    moving.begin()
    refused = refusals(moving.source, "TRYAGAIN")
    pair = [moving.gone, moving.stayed]
    with pytest.raises(Unavailable) as failure:  # while nothing moves on, the deadline ends it
        await called(bay.execute("MGET", *pair, timeout=0.2), bay)
    assert not isinstance(failure.value, OutcomeUnknown)
    assert refusals(moving.source, "TRYAGAIN") > refused
    refused = refusals(moving.source, "TRYAGAIN")
    waiting = asyncio.ensure_future(called(bay.execute("MGET", *pair), bay))
    await eventually(lambda: refusals(moving.source, "TRYAGAIN") > refused, "the source refuses both keys together", 3)
    await asyncio.to_thread(moving.finish)
    assert await waiting == [key.encode() for key in pair]


async def test_moved_is_followed_and_remembered(cluster: ClusterSet, moving: Moving, make_either: Any) -> None:
    bay = await make_either(cluster.url).connect()
    assert await bay.execute("GET", moving.keys[0]) == moving.keys[0].encode()
    moving.begin()
    moving.finish()
    moved = refusals(moving.source, "MOVED")
    for _ in range(10):
        assert await bay.execute("GET", moving.keys[0]) == moving.keys[0].encode()
    assert await bay.execute("MGET", *moving.keys) == [key.encode() for key in moving.keys]
    assert refusals(moving.source, "MOVED") == moved + 1


async def work_in_slots(bay: Any, load: Load, caller: int) -> None:
    """Write and read by every way there is, in a slot that moves; each caller knows what its keys hold."""
    own = [f"{{{bay.prefix}{caller % 4}}}:{caller}:{number}" for number in range(3)]
    async for number in load.turns(bay, caller):
        values = [f"{key}={number}" for key in own]
        with load.turn(caller):
            await bay.execute("SET", own[0], values[0])
            await bay.pipeline([("SET", key, value) for key, value in zip(own[1:], values[1:], strict=True)])
            check_read(load, own[0], await bay.execute("GET", own[0]), values[0])
            for key, value, read in zip(own, values, await bay.execute("MGET", *own), strict=True):
                check_read(load, key, read, value)
            if number % 4 == 0:
                check_read(load, own[0], await script(bay, SET_AND_GET, [own[0]], ["script"]), "script")
            if number % 4 == 1:
                _, read = await bay.transaction([("SET", own[1], "exec"), ("GET", own[1])])
                check_read(load, own[1], read, "exec")
            await bay.ping()


async def test_slots_move_to_and_fro_under_load_without_an_error(cluster: ClusterSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(cluster.url, prefix=prefix).connect()
    slots = {cluster.slot_of(f"{{{prefix}{number}}}") for number in range(4)}
    async with under_load(bay, work_in_slots) as load:
        for _ in range(2):
            await asyncio.to_thread(move_on, cluster, slots)
            await load.goes_on("all go on")
    load.check()
    assert load.all_errors() == []


async def test_a_node_joins_works_and_leaves_under_load_without_an_error(cluster: ClusterSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(cluster.url, prefix=prefix).connect()
    slots = {cluster.slot_of(f"{{{prefix}{number}}}") for number in range(4)}
    async with under_load(bay, work_in_slots) as load:
        added = await asyncio.to_thread(cluster.add_node)
        homes = {slot: cluster.owner(slot) for slot in slots}
        for slot in slots:
            await asyncio.to_thread(cluster.move_slot, slot, added)
        served = added.calls("get")
        await load.goes_on("all go on at the new node")
        assert added.calls("get") > served
        for slot, home in homes.items():
            await asyncio.to_thread(cluster.move_slot, slot, home)
        await load.goes_on("all have come back")
        await asyncio.to_thread(cluster.remove_node, added)
        await load.goes_on("all go on without it")
    load.check()
    assert load.all_errors() == []


def move_on(cluster: ClusterSet, slots: set[int]) -> None:
    """Move each slot to the next master, one key at a time."""
    masters = cluster.masters()
    for slot in slots:
        for _ in cluster.moving(slot, masters[(masters.index(cluster.owner(slot)) + 1) % len(masters)], at_once=1):
            pass


async def test_a_killed_master_disturbs_its_own_slots_alone(cluster_with_replicas: ClusterSet, make_either: Any, prefix: str) -> None:
    cluster = cluster_with_replicas
    bay = await make_either(cluster.url, prefix=prefix).connect()
    doomed, *others = cluster.masters()
    slot = cluster.slot_of(cluster.key_in(doomed, prefix))
    stems = [cluster.key_in(node, f"{prefix}stem") for node in (doomed, *others)]

    async def work(bay: Any, load: Load, caller: int) -> None:
        """Every even caller works on the slots of the master that will die, the others elsewhere."""
        stem = stems[0] if caller % 2 == 0 else stems[1 + caller % 4 // 2]
        async for number in load.turns(bay, caller):
            key = f"{{{stem}}}:{caller}:{number % 5}"
            with load.turn(caller):
                await bay.execute("SET", key, f"{key}={number}")
                check_read(load, key, await bay.execute("GET", key), None if caller % 2 == 0 else f"{key}={number}")

    async with under_load(bay, work) as load:
        await asyncio.to_thread(cluster.kill, doomed)
        killed_at = time.monotonic()
        await asyncio.to_thread(cluster.await_promotion, doomed, slot)
        promoted_at = time.monotonic()
        await eventually(lambda: load.all_served_since(promoted_at), "every caller is served", MORE)
        back_at = time.monotonic()
    disturbed = [caller for caller in range(load.callers) if caller % 2 == 0]
    untouched = [caller for caller in range(load.callers) if caller % 2]
    print(
        f"promoted after {promoted_at - killed_at:.2f} s, all served {back_at - promoted_at:.2f} s later; "
        f"{sum(len(load.errors[caller]) for caller in disturbed)} errors in its slots; "
        f"longest gap elsewhere {max(load.longest_gap[caller] for caller in untouched):.2f} s"
    )
    load.check()
    assert [error for caller in untouched for error in load.errors[caller]] == []
    assert max(load.longest_gap[caller] for caller in untouched) < UNDISTURBED


async def test_a_killed_replica_is_no_trouble_for_reads(cluster_with_replicas: ClusterSet, make_either: Any, prefix: str) -> None:
    cluster = cluster_with_replicas
    bay = await make_either(cluster.url).connect()
    master = cluster.masters()[0]
    key = cluster.key_in(master, prefix)
    await bay.execute("SET", key, "value")
    caught_up(master, cluster.replicas_of(master))
    assert await bay.execute("GET", key, replica=True) == b"value"
    cluster.kill(cluster.replicas_of(master)[0])
    for _ in range(20):
        assert await bay.execute("GET", key, replica=True) == b"value"
