"""Two operations on one session, each step of the one against the whole of the other: what ended stays so, and nothing is left over.

The first is held before or after one of its commands; the second, from another bay, is acknowledged meanwhile. So both orders of
any two commands occur.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forebay import AsyncForebay, SessionConflict, SessionGone, SessionNotFound, TooManySessions
from tests.either import Either
from tests.races.gate import Gate

HELD = {
    "save": ["commit"],
    "touch": ["touch"],
    "regenerate": ["create", "leave"],
    "destroy": ["leave"],
    "destroy_for": ["revoke"],
    "destroy_handle": ["zrange", "leave"],
    "list_for": ["zrange", "hgetall"],
}
MEANWHILE = ["save", "touch", "regenerate", "destroy", "destroy_for", "destroy_for others", "destroy_handle"]
CASES = [(one, step, side, other) for one, steps in HELD.items() for step in steps for side in ("before", "after") for other in MEANWHILE]
ENDS = {"destroy", "destroy_for", "destroy_handle"}


class Party:
    """One bay, and one copy of the session in its hands."""

    def __init__(self, bay: Any, session: Any) -> None:
        self.sessions = bay.sessions()
        self.session = session

    async def do(self, what: str, item: str) -> Any:
        """Do it; return what came of it, or the error that said that the session had ended."""
        sessions, session = self.sessions, self.session
        try:
            match what:
                case "save":
                    session[item] = "changed"
                    return await sessions.save(session)
                case "touch":
                    session.record.seen = 0
                    return await sessions.touch(session)
                case "regenerate":
                    return await sessions.regenerate(session)
                case "destroy":
                    return await sessions.destroy(session.id)
                case "destroy_for":
                    return await sessions.destroy_for(42)
                case "destroy_for others":
                    return await sessions.destroy_for(42, except_=session.id)
                case "destroy_handle":
                    return await sessions.destroy_handle(42, session.handle)
                case _:
                    assert what == "list_for"
                    return await sessions.list_for(42)
        except SessionGone as gone:
            return gone


async def alive(bay: Any, id_: str) -> Any:
    try:
        return await bay.sessions().load(id_)
    except SessionNotFound:
        return None


async def nothing_immortal(bay: Any, prefix: str) -> None:
    for name in await bay.execute("KEYS", f"{prefix}*"):
        assert await bay.execute("PTTL", name) != -1, name


@pytest.mark.parametrize(("one", "step", "side", "other"), CASES)
async def test_what_ended_stays_so_whatever_the_order(make_either, url, prefix, one, step, side, other):
    first, second = [await make_either(url, prefix=prefix).connect() for _ in range(2)]
    awaits = isinstance(first, AsyncForebay)
    session = await second.sessions().create(42, {"a": "first", "b": "first"})
    copies = [await bay.sessions().load(session.id) for bay in (first, second)]
    gate = Gate(first if awaits else first.wrapped, awaits=awaits)
    mine, theirs = (Party(bay, copy) for bay, copy in zip((first, second), copies, strict=True))

    hold = gate.hold(step, side)
    under_way = asyncio.ensure_future(mine.do(one, "a") if awaits else in_a_thread(mine, one))
    await hold.reached()
    did = await theirs.do(other, "b")
    hold.let_go()
    done = await under_way

    new = [outcome for outcome in (done, did) if hasattr(outcome, "csrf_token")]
    ended = [what for what in (one, other) if what in ENDS]
    left = await alive(second, session.id)
    listed = {info.handle for info in await second.sessions().list_for(42)}
    if ended or new:
        assert left is None, "an end that was acknowledged holds"
        late = copies[0]
        late["late"] = 1
        with pytest.raises(SessionGone):
            await second.sessions().save(late)
    living = [found for found in [await alive(second, made.id) for made in new] if found is not None]
    assert listed == {found.handle for found in [left, *living] if found is not None}, "nothing lives that nobody knows of"
    assert len(living) <= 1, "one login, one session"
    if one == "regenerate" and other in ENDS and (step, side) != ("leave", "after"):
        assert isinstance(done, SessionGone)
        assert not living
    if "destroy_for" in (one, other):
        assert not (living and other == "destroy_for"), "no id escapes that was there"
    if not ended and not new:
        content = dict(left)
        assert content["a"] == ("changed" if one == "save" else "first")
        assert content["b"] == ("changed" if other == "save" else "first"), "neither takes the other's change back"
    await nothing_immortal(second, prefix)


async def in_a_thread(party: Party, what: str) -> Any:
    """Threads stand still where they are held, so the party's bay gets one of its own."""
    return await asyncio.to_thread(lambda: asyncio.run(party.do(what, "a")))


@pytest.mark.parametrize("check", [None, "version"])
@pytest.mark.parametrize("same", [True, False], ids=["the same item", "different items"])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_two_saves(make_either, url, prefix, side, same, check):
    first, second = [await make_either(url, prefix=prefix).connect() for _ in range(2)]
    awaits = isinstance(first, AsyncForebay)
    id_ = (await first.sessions().create(42, {"a": 0, "b": 0})).id
    one, two = [await bay.sessions().load(id_) for bay in (first, second)]
    gate = Gate(first if awaits else first.wrapped, awaits=awaits)
    one["a"], two["a" if same else "b"] = 1, 2

    async def save() -> Any:
        try:
            return await first.sessions().save(one, check=check)
        except SessionConflict as conflict:
            return conflict

    hold = gate.hold("commit", side)
    under_way = asyncio.ensure_future(save() if awaits else asyncio.to_thread(lambda: asyncio.run(save())))
    await hold.reached()
    late = None
    try:
        await second.sessions().save(two, check=check)
    except SessionConflict as conflict:
        late = conflict
    hold.let_go()
    early = await under_way
    left = dict(await second.sessions().load(id_))
    if check is None:
        last = 1 if side == "before" else 2
        assert left == ({"a": last, "b": 0} if same else {"a": 1, "b": 2})
    elif side == "before":
        assert isinstance(early, SessionConflict)
        assert left == ({"a": 2, "b": 0} if same else {"a": 0, "b": 2})
    else:
        assert isinstance(late, SessionConflict)
        assert left == {"a": 1, "b": 0}


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_session_that_begins_while_all_are_revoked(make_either, url, prefix, side):
    first, second = [await make_either(url, prefix=prefix).connect() for _ in range(2)]
    awaits = isinstance(first, AsyncForebay)
    earlier = await second.sessions().create(42)
    gate = Gate(first if awaits else first.wrapped, awaits=awaits)

    async def create() -> Any:
        return await first.sessions().create(42)

    hold = gate.hold("create", side)
    under_way = asyncio.ensure_future(create() if awaits else asyncio.to_thread(lambda: asyncio.run(create())))
    await hold.reached()
    await second.sessions().destroy_for(42)
    hold.let_go()
    made = await under_way
    assert await alive(second, earlier.id) is None
    assert (await alive(second, made.id) is not None) == (side == "before"), "what reached the server first was there"
    await nothing_immortal(second, prefix)


@pytest.mark.parametrize("when_full", ["evict", "refuse"])
async def test_never_more_sessions_than_may_be(make_either, url, prefix, when_full):
    bays = [await make_either(url, prefix=prefix).connect() for _ in range(2)]
    options = {"max_per_user": 3, "when_full": when_full}

    async def create(bay: Any) -> Any:
        try:
            if isinstance(bay, Either):
                return await asyncio.to_thread(bay.wrapped.sessions(**options).create, 42)
            return await bay.sessions(**options).create(42)
        except TooManySessions as refused:
            return refused

    made = await asyncio.gather(*(create(bay) for bay in bays * 10))
    sessions = [each for each in made if not isinstance(each, TooManySessions)]
    living = [found for found in [await alive(bays[0], each.id) for each in sessions] if found is not None]
    assert len(living) == 3
    assert len(sessions) == (20 if when_full == "evict" else 3)
    assert {info.handle for info in await bays[1].sessions().list_for(42)} == {each.handle for each in living}
