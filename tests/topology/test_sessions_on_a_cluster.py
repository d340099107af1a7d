"""Sessions and tokens on a real cluster: what is a user's is in one slot, a login goes to another, and a slot may move to another node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from forebay import AccessTokenRevoked, AsyncForebay, Forebay, RefreshTokenInvalid, RefreshTokenReused, SessionGone, SessionNotFound
from forebay.wire.slots import slot_of
from tests.clusters import ClusterSet
from tests.server.test_session_model import check


@pytest.fixture
async def bay(cluster: ClusterSet, make_either: Any, prefix: str) -> Any:
    return await make_either(cluster.url, prefix=prefix).connect()


async def test_many_users_live_on_all_nodes(bay: Any) -> None:
    sessions = bay.sessions()
    made = {user: [await sessions.create(user, {"n": n}) for n in range(2)] for user in range(20)}
    for user, mine in made.items():
        assert len({slot_of(name.encode()) for session in mine for name in sessions_keys(session)}) == 1
        loaded = [await sessions.load(session.id) for session in mine]
        assert [session["n"] for session in loaded] == [0, 1]
        loaded[0]["n"] = 5
        assert await sessions.save(loaded[0])
        assert {info.handle for info in await sessions.list_for(user)} == {session.handle for session in mine}
    assert len({slot_of(sessions_keys(mine[0])[0].encode()) for mine in made.values()}) > 10
    assert await sessions.destroy_for(3, except_=made[3][0].id)
    assert (await sessions.load(made[3][0].id))["n"] == 5
    with pytest.raises(SessionNotFound):
        await sessions.load(made[3][1].id)
    assert len(await sessions.list_for(4)) == 2


def sessions_keys(session: Any) -> list[str]:
    tag = f"session:{{{session.id[:32]}}}:"
    return [tag + session.token.digest, tag + "index", tag + "epoch"]


async def test_a_login_goes_from_one_slot_to_another(bay: Any) -> None:
    sessions = bay.sessions()
    for user in range(10):
        visitor = await sessions.create(None, {"cart": [user]})
        held = await sessions.load(visitor.id)
        session = await sessions.regenerate(visitor, user_id=user)
        assert dict(await sessions.load(session.id)) == {"cart": [user]}
        with pytest.raises(SessionNotFound):
            await sessions.load(visitor.id)
        held["cart"] = []
        with pytest.raises(SessionGone):
            await sessions.save(held)


async def test_tokens_are_renewed_and_revoked(bay: Any) -> None:
    tokens = bay.tokens("k" * 64, grace=None)
    for user in range(5):
        first = await tokens.issue(user)
        second = await tokens.refresh(first.refresh_token)
        assert (await tokens.verify(second.access_token)).user_id == str(user)
        with pytest.raises(RefreshTokenReused):
            await tokens.refresh(first.refresh_token)
        with pytest.raises(RefreshTokenInvalid):
            await tokens.refresh(second.refresh_token)
        with pytest.raises(AccessTokenRevoked):
            await tokens.verify(second.access_token)
    kept, gone = await tokens.issue(9), await tokens.issue(9)
    assert await tokens.revoke_for(9, except_=kept.refresh_token) == 1
    with pytest.raises(AccessTokenRevoked):
        await tokens.verify(gone.access_token)
    assert (await tokens.verify(kept.access_token)).user_id == "9"


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


@pytest.mark.parametrize("kind", [AsyncForebay, Forebay], ids=["asyncio", "threads"])
def test_sessions_are_as_the_model_says(cluster: ClusterSet, kind: type) -> None:
    check(cluster.url, kind, 12)
