"""Sessions on a cluster: a login takes a session from one node to another, and a slot that moves takes its user's sessions along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from forebay import SessionGone, SessionNotFound
from tests.clusters import ClusterSet


@pytest.fixture
async def sessions(cluster: ClusterSet, make_either: Any, prefix: str) -> Any:
    return (await make_either(cluster.url, prefix=prefix).connect()).sessions()


async def test_a_login_crosses_slots_and_leaves_nothing_behind(cluster: ClusterSet, sessions: Any) -> None:
    crossed = 0
    for user in range(20):
        visitor = await sessions.create(None, {"cart": [user]})
        new = await sessions.regenerate(visitor, user_id=user)
        slots = [cluster.slot_of(f"{{{each.id[:32]}}}") for each in (visitor, new)]
        crossed += cluster.owner(slots[0]) is not cluster.owner(slots[1])
        with pytest.raises(SessionNotFound):
            await sessions.load(visitor.id)
        visitor["cart"].append("late")
        with pytest.raises(SessionGone):
            await sessions.save(visitor)
        with pytest.raises(SessionGone):
            await sessions.regenerate(visitor, user_id=user)
        assert dict(await sessions.load(new.id)) == {"cart": [user]}
        assert [info.handle for info in await sessions.list_for(user)] == [new.handle]
    assert crossed


async def test_one_users_sessions_end_together_and_nobody_elses(sessions: Any) -> None:
    mine = [await sessions.create(1) for _ in range(4)]
    others = [await sessions.create(user) for user in range(2, 12)]
    assert await sessions.destroy_handle(1, mine[0].handle)
    assert await sessions.destroy_for(1, except_=mine[1].id)
    assert [info.handle for info in await sessions.list_for(1)] == [mine[1].handle]
    for gone in (mine[0], mine[2], mine[3]):
        gone["late"] = 1
        with pytest.raises(SessionGone):
            await sessions.save(gone)
    for other in others:
        assert (await sessions.load(other.id)).user_id == other.user_id


@pytest.fixture
def own_cluster() -> Iterator[ClusterSet]:
    """One whose slots a test may move."""
    with ClusterSet(2) as started:
        yield started


async def test_a_slot_that_moves_takes_a_users_sessions_along(own_cluster: ClusterSet, make_either: Any, prefix: str) -> None:
    """At each step of the move: what was acknowledged is read, and what was destroyed stays so."""
    cluster = own_cluster
    sessions = (await make_either(cluster.url, prefix=prefix).connect()).sessions()
    user = f"only of {prefix}"  # nobody else's keys are in this slot, so that all of them move in one step
    mine = [await sessions.create(user, {"n": 0}) for _ in range(3)]
    slot = cluster.slot_of(f"{{{mine[0].id[:32]}}}")
    source = cluster.owner(slot)
    target = next(master for master in cluster.masters() if master is not source)
    try:
        for number, step in enumerate(cluster.moving(slot, target)):
            held = await sessions.load(mine[0].id)
            held["n"] = number
            assert await sessions.save(held), step
            assert dict(await sessions.load(mine[0].id)) == {"n": number}, step
            if step == "moved a key":
                assert await sessions.destroy(mine[1].id)
            if step == "target owns it":  # before, a node refuses a script with a name that is new to a slot between two
                mine[2] = await sessions.regenerate(await sessions.load(mine[2].id))
    finally:
        cluster.move_slot(slot, target)
    mine[1]["n"] = 9
    with pytest.raises(SessionGone):
        await sessions.save(mine[1])
    assert {info.handle for info in await sessions.list_for(user)} == {mine[0].handle, mine[2].handle}
    assert not await sessions.destroy_for(user)
    assert await sessions.list_for(user) == []
