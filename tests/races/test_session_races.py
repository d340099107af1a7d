"""Every step of an operation on a session against every other operation, in both orders and both colours.

The law is that of a register: whatever two operations say, and whatever is there afterwards, is what one of them after the other
says and leaves. So what was destroyed or revoked never comes back, and what was acknowledged is there unless the session ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from forebay import AsyncForebay, Forebay, SessionConflict, SessionGone, SessionNotFound, TooManySessions
from forebay.colours import complete
from forebay.sessions import scripts
from tests.either import as_either
from tests.races.gate import Gate

SCRIPTS = {
    text: name
    for name in ("COMMIT", "CREATE", "LEAVE", "REVOKE", "TOUCH")
    for s in [getattr(scripts, name)]
    for text in (s.digest, s.source)
}
REFUSALS = (SessionConflict, SessionGone, SessionNotFound, TooManySessions)
Operation = Callable[["Hands"], Awaitable[Any]]


def step_of(_name: str, args: tuple[Any, ...]) -> str:
    """A script's step is its name, any other its command."""
    command = args[0][0] if isinstance(args[0], list) else args
    return SCRIPTS[command[1]] if command[0] in ("EVALSHA", "EVAL") else str(command[0])


class Colour:
    """Two bays of one colour on one server; the first has a gate."""

    def __init__(self, kind: Any, url: str, prefix: str) -> None:
        self.awaits = kind is AsyncForebay
        self.bays = [kind(url, prefix=prefix) for _ in range(2)]
        self.gated, self.free = [as_either(bay) for bay in self.bays]
        self.gate: Gate

    async def open(self) -> None:
        for bay in (self.gated, self.free):
            await bay.connect()
        for script in (scripts.COMMIT, scripts.CREATE, scripts.LEAVE, scripts.REVOKE, scripts.TOUCH):
            await self.free.execute("SCRIPT", "LOAD", script.source)  # so that each step comes once
        self.gate = Gate(self.bays[0], awaits=self.awaits, methods=("execute", "execute_many"), step_of=step_of)

    def start(self, work: Any) -> asyncio.Future[Any]:
        """Begin *work*; threads have one for it."""
        return asyncio.ensure_future(work if self.awaits else asyncio.to_thread(complete, work))


@pytest.fixture(params=[AsyncForebay, Forebay], ids=["asyncio", "threads"])
async def colour(request: pytest.FixtureRequest, url: str, prefix: str) -> AsyncIterator[Colour]:
    made = Colour(request.param, url, prefix)
    await made.open()
    yield made
    for bay in (made.gated, made.free):
        await bay.close()


class Hands:
    """One request: a copy of the session as it was before anything happened, and what the request got for it."""

    def __init__(self, name: str, sessions: Any, session: Any, users: tuple[str, str]) -> None:
        self.name = name
        self.sessions = sessions
        self.session = session
        self.user, self.other = users
        self.made: Any = None

    async def do(self, operation: Operation) -> object:
        """Do it, and return what a caller would see of it."""
        try:
            result = await operation(self)
        except REFUSALS as error:
            return type(error).__name__
        if isinstance(result, bool | None):
            return result
        self.made = result
        return "a session"


async def save(hands: Hands, name: str, value: int, check: Any = None) -> bool:
    hands.session[name] = value
    return bool(await hands.sessions.save(hands.session, check=check))


async def touch(hands: Hands) -> bool:
    hands.session.record.seen = 0
    return bool(await hands.sessions.touch(hands.session))


async def look(hands: Hands) -> None:
    """Its answer is no snapshot, and is not compared; but it tidies the index."""
    await hands.sessions.list_for(hands.user)


OPERATIONS: dict[str, Operation] = {
    "save a": lambda h: save(h, "a", 1),
    "save b": lambda h: save(h, "b", 2),
    "save a otherwise": lambda h: save(h, "a", 3),
    "save checked": lambda h: save(h, "a", 4, "version"),
    "touch": touch,
    "regenerate": lambda h: h.sessions.regenerate(h.session),
    "regenerate with grace": lambda h: h.sessions.regenerate(h.session, grace="1m"),
    "remember": lambda h: h.sessions.regenerate(h.session, remember_me=True),
    "log in": lambda h: h.sessions.regenerate(h.session, user_id=h.other),
    "log in with grace": lambda h: h.sessions.regenerate(h.session, user_id=h.other, grace="1m"),
    "to a visitor": lambda h: h.sessions.regenerate(h.session, user_id=None),
    "create": lambda h: h.sessions.create(h.user, {"a": 5}),
    "destroy": lambda h: h.sessions.destroy(h.session.id),
    "destroy by handle": lambda h: h.sessions.destroy_handle(h.user, h.session.handle),
    "destroy_for": lambda h: h.sessions.destroy_for(h.user),
    "destroy_for others": lambda h: h.sessions.destroy_for(h.user, except_=h.session.id),
    "destroy_for the next user": lambda h: h.sessions.destroy_for(h.other),
    "list": look,
}
STEPS = {
    **dict.fromkeys(("save a", "save checked"), ("COMMIT",)),
    "touch": ("TOUCH",),
    **dict.fromkeys(("regenerate", "regenerate with grace"), ("CREATE",)),
    **dict.fromkeys(("log in", "log in with grace", "to a visitor"), ("CREATE", "LEAVE")),
    "create": ("CREATE",),
    "destroy": ("LEAVE",),
    "destroy by handle": ("ZRANGE", "LEAVE"),
    **dict.fromkeys(("destroy_for", "destroy_for others"), ("REVOKE",)),
    "list": ("ZRANGE", "HGETALL"),
}
PAIRS = [(held, rival, step, side) for held in STEPS for rival in OPERATIONS for step in STEPS[held] for side in ("before", "after")]


class World:
    """A user's session in the hands of two requests, and an innocent session of the same user."""

    def __init__(self, colour: Colour, users: tuple[str, str]) -> None:
        self.colour = colour
        self.users = users
        self.seen: list[tuple[str, Any]] = []

    async def made(self) -> World:
        gated, free = self.colour.gated.sessions(), self.colour.free.sessions()
        session, innocent = [await free.create(self.users[0], {"a": 0, "b": 0}) for _ in range(2)]
        self.seen = [("it", session), ("innocent", innocent)]
        self.one = Hands("one", gated, await gated.load(session.id), self.users)
        self.two = Hands("two", free, await free.load(session.id), self.users)
        return self

    async def outcome(self, said: tuple[object, object]) -> dict[str, object]:
        """Return what both said, and all that anybody can see afterwards."""
        free = self.two.sessions
        seen = self.seen + [(hands.name, hands.made) for hands in (self.one, self.two) if hands.made is not None]
        found: dict[str, object] = {"said": said}
        names = {session.handle: name for name, session in seen}
        for name, session in seen:
            try:
                loaded = await free.load(session.id)
            except SessionNotFound:
                found[name] = "not there"
                continue
            whose = None if loaded.user_id is None else self.users.index(loaded.user_id)
            found[name] = (whose, dict(loaded), loaded.remembered)
        for user in (0, 1):
            found[f"list of {user}"] = sorted(names.get(info.handle, "?") for info in await free.list_for(self.users[user]))
        for name, session in seen:
            session["late"] = 1
            found[f"{name} is saved"] = await Hands("", free, session, self.users).do(lambda h: h.sessions.save(h.session))
        return found


async def in_turn(colour: Colour, users: tuple[str, str], held: str, rival: str, *, first: str) -> dict[str, object]:
    """Return what comes of both, one after the other."""
    world = await World(colour, users).made()
    if first == "held":
        one = await world.one.do(OPERATIONS[held])
        two = await world.two.do(OPERATIONS[rival])
    else:
        two = await world.two.do(OPERATIONS[rival])
        one = await world.one.do(OPERATIONS[held])
    return await world.outcome((one, two))


@pytest.mark.parametrize(("held", "rival", "step", "side"), PAIRS, ids=["-".join(pair).replace(" ", "_") for pair in PAIRS])
async def test_two_operations_at_once_are_like_one_after_the_other(colour: Colour, held: str, rival: str, step: str, side: str) -> None:
    world = await World(colour, ("1", "2")).made()
    hold = colour.gate.hold(step, side)
    one = colour.start(world.one.do(OPERATIONS[held]))
    await hold.reached()
    two = await world.two.do(OPERATIONS[rival])
    hold.let_go()
    happened = await world.outcome((await one, two))
    orders = ["held", "rival"]
    if (step, side) == (STEPS[held][0], "before"):
        orders = ["rival"]  # nothing was done yet
    if (step, side) == (STEPS[held][-1], "after") and held != "list":
        orders = ["held"]
    assert happened in [await in_turn(colour, (f"{first} 1", f"{first} 2"), held, rival, first=first) for first in orders]


ENDS = ("destroy", "destroy by handle", "destroy_for")
USES = ("save a", "save b", "save checked", "touch", "regenerate", "regenerate with grace", "remember", "log in", "to a visitor")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("end", ENDS)
async def test_what_ended_is_used_by_no_copy_of_it(colour: Colour, use: str, end: str) -> None:
    """The two orders that the other test compares with, by their own law."""
    world = await World(colour, ("1", "2")).made()
    assert await world.two.do(OPERATIONS[end]) is (end != "destroy_for")
    assert await world.one.do(OPERATIONS[use]) == "SessionGone"
    after = await world.outcome((None, None))
    assert (after["it"], after["it is saved"], after["list of 1"]) == ("not there", "SessionGone", [])


@pytest.mark.parametrize("use", ["regenerate", "remember", "log in", "to a visitor"])
async def test_an_id_in_its_grace_is_no_way_to_another(colour: Colour, use: str) -> None:
    """Whoever stole an id must not trade it, in its grace, for one that lasts."""
    world = await World(colour, ("1", "2")).made()
    assert await world.one.do(OPERATIONS["regenerate with grace"]) == "a session"
    assert await world.two.do(OPERATIONS[use]) == "SessionGone"
    after = await world.outcome((None, None))
    assert (after["list of 0"], after["list of 1"]) == (["innocent", "one"], [])


@pytest.mark.parametrize("when_full", ["evict", "refuse"])
async def test_another_id_takes_the_place_of_the_old_one_where_no_more_may_be(colour: Colour, when_full: str) -> None:
    sessions = colour.free.sessions(max_per_user=2, when_full=when_full)
    one, two = [await sessions.create(1, {"n": n}) for n in range(2)]
    for _ in range(3):
        one, two = await sessions.regenerate(one), await sessions.regenerate(two, remember_me=True)
    assert {info.handle for info in await sessions.list_for(1)} == {one.handle, two.handle}
    assert [dict(await sessions.load(each.id)) for each in (one, two)] == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("when_full", ["evict", "refuse"])
async def test_no_more_than_so_many_live_however_many_begin_at_once(colour: Colour, when_full: str) -> None:
    most = 2
    gated, free = [bay.sessions(max_per_user=most, when_full=when_full) for bay in (colour.gated, colour.free)]
    made: list[Any] = []

    async def begin() -> int:
        hold = colour.gate.hold("CREATE", "before")
        hands = Hands("", gated, None, ("1", "2"))
        begun = colour.start(hands.do(lambda h: h.sessions.create(1)))
        await hold.reached()
        made.append((hands, hold, begun))
        return len(made)

    assert [await begin() for _ in range(4)] == [1, 2, 3, 4]
    while made:
        waiting, made = made[:2], made[2:]
        for _, hold, _ in waiting:
            hold.let_go()
        said = [await begun for _, _, begun in waiting]
        assert set(said) <= {"a session", "TooManySessions"}
        assert len(await free.list_for(1)) <= most
    assert len(await free.list_for(1)) == most
    before = {info.handle for info in await free.list_for(1)}
    answer = await Hands("", free, None, ("1", "2")).do(lambda h: h.sessions.create(1))
    assert answer == ("a session" if when_full == "evict" else "TooManySessions")
    assert len({info.handle for info in await free.list_for(1)} & before) == most - (when_full == "evict")


async def test_a_save_that_is_repeated_after_an_unknown_outcome_is_no_second_session(colour: Colour) -> None:
    """It was stored, and the answer was lost; where one session may be, that is the one."""
    sessions = colour.free.sessions(max_per_user=1, when_full="refuse")
    session = sessions.wrapped.begin(1) if hasattr(sessions, "wrapped") else sessions.begin(1)
    session["a"] = 1
    assert await sessions.save(session)
    session.record.version = 0  # as far as it knows
    session["a"] = 2
    assert await sessions.save(session)
    assert dict(await sessions.load(session.id)) == {"a": 2}
    assert [info.handle for info in await sessions.list_for(1)] == [session.handle]


CHANGES: dict[str, Callable[[Any], object]] = {
    "another value": lambda s: s.update(a=2),
    "another item": lambda s: s.update(b=1),
    "inside": lambda s: s["inside"].append(2),
    "removed": lambda s: s.pop("a"),
    "removed what is new": lambda s: s.pop("new"),
    "assigned what was removed": lambda s: s.update(gone=2),
    "a lifetime": lambda s: s.put("a", 1, ttl=60),
    "a flash": lambda s: s.flash("late"),
    "nothing": lambda s: len(s),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("side", ["before", "after"])
async def test_what_changes_while_a_save_is_under_way_is_stored_by_the_next(colour: Colour, change: Any, side: str) -> None:
    """Two tasks of one request: what the one changes while the other waits for the answer was not sent."""
    sessions = colour.gated.sessions()
    session = await sessions.create(1, {"a": 0, "gone": 0, "inside": [0]})
    session["a"] = 1
    session["new"] = 1
    session["inside"].append(1)
    del session["gone"]
    hold = colour.gate.hold("COMMIT", side)
    saving = colour.start(sessions.save(session))
    await hold.reached()
    change(session)
    wanted, flashes = dict(session), session._own("~flash", [])
    hold.let_go()
    assert await saving
    assert dict(session) == wanted
    await sessions.save(session)
    again = await sessions.load(session.id)
    assert dict(again) == wanted
    assert [list(each) for each in again.flashes()] == flashes
    assert set(again.record.lives) == ({"=a"} if change is CHANGES["a lifetime"] else set())
    assert not await sessions.save(session)
