"""Sessions and tokens on a real cluster: what belongs to one user is in one slot, and a login goes from one slot to another."""

from __future__ import annotations

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


@pytest.mark.parametrize("kind", [AsyncForebay, Forebay], ids=["asyncio", "threads"])
def test_sessions_are_as_the_model_says(cluster: ClusterSet, kind: type) -> None:
    check(cluster.url, kind, 12)
