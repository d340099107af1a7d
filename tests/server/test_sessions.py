"""Sessions of both colours: what is stored, who is refused, and that nothing that ended comes back."""

import asyncio
import pickle
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from forebay import (
    Device,
    EncodeError,
    InvalidKey,
    SessionConflict,
    SessionGone,
    SessionItemLost,
    SessionNotFound,
    SessionsMayBeEvicted,
    SessionUnreadable,
    SettingsError,
    TooManySessions,
    Unavailable,
    new_sealing_key,
)
from forebay.sessions import session as session_module
from forebay.testing import moved_clock
from tests.either import older
from tests.server.test_near import until


async def names(bay, prefix):
    """Every key of this test, as text."""
    return sorted(name.decode() for name in await bay.execute("KEYS", f"{prefix}*"))


async def lifetimes(bay, prefix):
    return {name: await bay.execute("PTTL", name) for name in await names(bay, prefix)}


async def test_what_is_stored_comes_back(either):
    sessions = either.sessions()
    session = await sessions.create(42, {"cart": [1, {"n": 2}], "name": "Ada", "none": None}, Device("Firefox", "10.0.0.1"))
    assert (session.user_id, session.is_new, session.version) == ("42", True, 1)
    again = await sessions.load(session.id)
    assert (again.user_id, again.is_new, again.version, again.device) == ("42", False, 1, Device("Firefox", "10.0.0.1"))
    assert dict(again) == {"cart": [1, {"n": 2}], "name": "Ada", "none": None}
    assert again.handle == session.handle
    now = datetime.now(UTC)
    assert abs(again.created_at - now) < timedelta(seconds=30)
    assert abs(again.expires_at - now - timedelta(minutes=30)) < timedelta(seconds=30)


@pytest.mark.parametrize("more", ["100%b:", "caf\u00e9:", "%d%%:"])
async def test_any_prefix_stands_before_a_session(make_either, url, prefix, more):
    bay = make_either(url, prefix=prefix + more)
    sessions = bay.sessions()
    session = await sessions.create(42, {"a": 1})
    for _ in range(3):  # the server's clock is known by the second
        assert (await sessions.load(session.id))["a"] == 1
    assert await sessions.destroy_for(42) is False
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)


async def test_only_what_changed_is_stored_also_inside(either, prefix):
    sessions = either.sessions()
    session = await sessions.create(None, {"a": [1], "b": {"x": [1]}, "c": 3})
    again = await sessions.load(session.id)
    assert not await sessions.save(again)
    assert again["a"] == [1]
    assert not again.modified
    again["b"]["x"].append(2)
    del again["c"]
    again["d"] = "new"
    changes = again.changes()
    assert (set(changes.put), changes.removed) == ({"=b", "=d"}, ["=c"])
    assert await sessions.save(again)
    assert not again.modified
    assert dict(await sessions.load(session.id)) == {"a": [1], "b": {"x": [1, 2]}, "d": "new"}
    assert (await sessions.load(session.id)).version == 2


async def test_two_requests_that_change_different_items_both_win(either):
    sessions = either.sessions()
    id_ = (await sessions.create(1, {"a": 0, "b": 0})).id
    one, two = await sessions.load(id_), await sessions.load(id_)
    one["a"], two["b"] = 1, 2
    await sessions.save(one)
    await sessions.save(two)
    assert dict(await sessions.load(id_)) == {"a": 1, "b": 2}


async def test_the_same_item_can_be_guarded_by_version(either):
    sessions = either.sessions()
    id_ = (await sessions.create(1, {"n": 0})).id
    one, two = await sessions.load(id_), await sessions.load(id_)
    one["n"], two["n"] = 1, 2
    await sessions.save(one, check="version")
    with pytest.raises(SessionConflict, match="version 2, and 1 was read"):
        await sessions.save(two, check="version")
    assert dict(await sessions.load(id_)) == {"n": 1}


async def test_a_destroyed_session_does_not_come_back(either, prefix):
    """CVE-2025-46336: restored after deletion."""
    sessions = either.sessions()
    session = await sessions.create(1, {"n": 0})
    held = await sessions.load(session.id)
    assert await sessions.destroy(session.id)
    assert not await sessions.destroy(session.id)
    held["n"] = 1
    with pytest.raises(SessionGone):
        await sessions.save(held)
    with pytest.raises(SessionGone):
        await sessions.regenerate(held)
    held.record.seen = 0
    with pytest.raises(SessionGone):
        await sessions.touch(held)
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)
    assert [name for name in await names(either, prefix) if re.search("[0-9a-f]{64}", name)] == []


NEVER_IDS = {
    "empty": "",
    "None": None,
    "bytes": b"0" * 97,
    "text": "abc",
    "truncated": "0" * 32 + "." + "0" * 63,
    "oversized": "0" * 32 + "." + "0" * 65,
    "a megabyte": "0" * 2**20,
    "a newline behind": "0" * 32 + "." + "0" * 64 + "\n",
    "upper case": "0" * 32 + "." + "A" * 64,
    "other digits": "\u0660" * 32 + "." + "0" * 64,
    "a glob": "*" * 32 + "." + "0" * 64,
    "NUL": "\0" * 32 + "." + "0" * 64,
    "index": "index",
}


@pytest.mark.parametrize("id_", NEVER_IDS.values(), ids=NEVER_IDS)
async def test_what_cannot_be_an_id_is_refused_without_asking(either, id_):
    """CVE-2015-3982: an empty id was a session."""
    sessions = either.sessions()
    await sessions.create()
    before = int((await either.execute("INFO", "commandstats")).count(b"calls"))
    sent = either.stats().wire.bytes_sent
    with pytest.raises(SessionNotFound, match="there is no such session"):
        await sessions.load(id_)
    assert not await sessions.destroy(id_)
    assert either.stats().wire.bytes_sent == sent
    assert before


async def test_unknown_ended_destroyed_and_a_stored_digest_cost_the_same(either, prefix):
    """CVE-2019-16782: what stands in Redis must not log in, and no difference tells what was wrong."""
    sessions = either.sessions()
    session, ended, destroyed = [await sessions.create(7) for _ in range(3)]
    digest = next(name for name in await names(either, prefix) if re.search("[0-9a-f]{64}$", name)).rpartition(":")[2]
    await either.execute("PEXPIRE", f"{prefix}session:{{{ended.id[:32]}}}:{ended.token.digest}", 0)
    await sessions.destroy(destroyed.id)
    await sessions.load(session.id)
    if hasattr(either, "wrapped"):  # on another thread it is asked, once, whether the server evicts
        await until(lambda: "INFO" in either.stats().wire.latency)
    costs = []
    for id_ in (f"{'0' * 32}.{'0' * 64}", ended.id, destroyed.id, f"{session.id[:32]}.{digest}"):
        sent, received = either.stats().wire.bytes_sent, either.stats().wire.bytes_received
        with pytest.raises(SessionNotFound) as caught:
            await sessions.load(id_)
        costs.append((either.stats().wire.bytes_sent - sent, str(caught.value)))
        assert either.stats().wire.bytes_received > received
    assert len(set(costs)) == 1


async def test_no_id_stands_in_redis_or_in_a_repr(either, prefix):
    sessions = either.sessions()
    session = await sessions.create(5, {"a": 1})
    secret = session.id.partition(".")[2]
    dumped = b"".join([repr(await either.execute("HGETALL", name)).encode() for name in await names(either, prefix) if len(name) > 100])
    assert dumped
    for text in (dumped.decode(), *await names(either, prefix), repr(session), repr(session.token), repr(sessions), str(session.record)):
        assert secret not in text
        assert session.id not in text


async def test_ids_are_long_and_never_the_same(either):
    sessions = either.sessions()
    ids = {(await sessions.create()).id for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"[0-9a-f]{32}\.[0-9a-f]{64}", id_) for id_ in ids)
    assert len({id_[:32] for id_ in ids}) == 50, "visitors share nothing"


async def test_an_invented_id_is_not_adopted(either, prefix):
    """CVE-2018-1000519: fixation."""
    sessions = either.sessions()
    with pytest.raises(SessionNotFound):
        await sessions.load("1" * 32 + "." + "2" * 64)
    assert await names(either, prefix) == []


async def test_a_login_gives_another_id_and_ends_the_old_one(either, prefix):
    sessions = either.sessions()
    visitor = await sessions.create(None, {"cart": [1]})
    visitor["cart"].append(2)
    user = await sessions.regenerate(visitor, user_id=9)
    assert (user.user_id, user["cart"]) == ("9", [1, 2])
    assert user.id != visitor.id
    with pytest.raises(SessionNotFound):
        await sessions.load(visitor.id)
    assert dict(await sessions.load(user.id)) == {"cart": [1, 2]}
    again = await sessions.regenerate(await sessions.load(user.id))
    assert again.created_at == user.created_at
    assert again.record.ends == user.record.ends, "who only changes the id gains no time"
    assert [info.handle for info in await sessions.list_for(9)] == [again.handle]


async def test_a_grace_lets_parallel_requests_read_and_nothing_else(either):
    sessions = either.sessions()
    session = await sessions.create(3, {"n": 1})
    new = await sessions.regenerate(session, grace="10s")
    old = await sessions.load(session.id)
    assert old["n"] == 1
    old["n"] = 2
    with pytest.raises(SessionGone):
        await sessions.save(old)
    assert 0 < await either.execute("PTTL", sessions_key(sessions, old)) <= 10_000
    assert [info.handle for info in await sessions.list_for(3)] == [new.handle]
    assert await sessions.destroy_for(3) is False
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)


def sessions_key(sessions, session):
    core = getattr(sessions, "wrapped", sessions)
    core = getattr(core, "_core", core)
    return core._keys(session.token)[0]


async def test_all_sessions_of_a_user_end_at_once(either):
    sessions = either.sessions()
    mine = [await sessions.create(1) for _ in range(3)]
    other = await sessions.create(2)
    held = await sessions.load(mine[0].id)
    assert await sessions.destroy_for(1, except_=mine[1].id)
    for session in (mine[0], mine[2]):
        with pytest.raises(SessionNotFound):
            await sessions.load(session.id)
    held["n"] = 1
    with pytest.raises(SessionGone):
        await sessions.save(held)
    spared = await sessions.load(mine[1].id)
    spared["n"] = 1
    assert await sessions.save(spared)
    assert [info.handle for info in await sessions.list_for(1)] == [spared.handle]
    assert (await sessions.load(other.id)).user_id == "2"
    fresh = await sessions.create(1)
    assert {info.handle for info in await sessions.list_for("1")} == {spared.handle, fresh.handle}
    assert not await sessions.destroy_for(1, except_=mine[0].id), "what was revoked is not spared"
    assert not await sessions.destroy_for(1, except_=other.id), "nor is another's"
    assert not await sessions.destroy_for(1, except_="nonsense")
    assert await sessions.list_for(1) == []
    with pytest.raises(SessionNotFound):
        await sessions.load(spared.id)


async def test_a_revoked_session_comes_back_by_no_way(either):
    """Its hash is there until its time ends; no operation may take that for life."""
    sessions = either.sessions()
    copies = [await sessions.create(1, {"a": 1}) for _ in range(3)]
    await sessions.destroy_for(1)
    with pytest.raises(SessionGone):
        await sessions.regenerate(copies[0])
    with pytest.raises(SessionGone):
        await sessions.regenerate(copies[1], user_id=2)
    with pytest.raises(SessionGone):
        await sessions.regenerate(copies[1], user_id=2, grace="1m")
    assert not await sessions.destroy(copies[2].id)
    assert await sessions.list_for(1) == await sessions.list_for(2) == []


async def test_who_was_spared_once_is_not_spared_twice(either):
    sessions = either.sessions()
    one, two = await sessions.create(1), await sessions.create(1)
    assert await sessions.destroy_for(1, except_=one.id)
    three = await sessions.create(1)
    assert await sessions.destroy_for(1, except_=three.id)
    for gone in (one, two):
        with pytest.raises(SessionNotFound):
            await sessions.load(gone.id)
    assert (await sessions.load(three.id)).user_id == "1"


async def test_a_lost_epoch_refuses(either, prefix):
    sessions = either.sessions()
    session = await sessions.create(1)
    await either.execute("DEL", f"{prefix}session:{{{session.id[:32]}}}:epoch")
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)
    session["a"] = 1
    with pytest.raises(SessionGone):
        await sessions.save(session)
    fresh = await sessions.create(1)
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)
    assert (await sessions.load(fresh.id)).handle == fresh.handle


async def test_one_of_many_is_ended_by_its_handle(either):
    sessions = either.sessions()
    laptop, phone = await sessions.create(1, device="laptop"), await sessions.create(1, device="phone")
    infos = await sessions.list_for(1)
    assert {info.device.agent for info in infos} == {"laptop", "phone"}
    assert all(laptop.id not in str(info) and laptop.token.digest not in str(info) for info in infos)
    for wrong in (laptop.id, laptop.token.digest, "", "0" * 32):
        assert not await sessions.destroy_handle(1, wrong)
    assert not await sessions.destroy_handle(2, laptop.handle)
    assert await sessions.destroy_handle(1, laptop.handle)
    with pytest.raises(SessionNotFound):
        await sessions.load(laptop.id)
    assert [info.handle for info in await sessions.list_for(1)] == [phone.handle]


async def test_the_index_forgets_what_is_gone(either, prefix):
    sessions = either.sessions()
    one, two = await sessions.create(1), await sessions.create(1)
    await either.execute("DEL", sessions_key(sessions, one))
    assert [info.handle for info in await sessions.list_for(1)] == [two.handle]
    assert await either.execute("ZCARD", f"{prefix}session:{{{two.id[:32]}}}:index") == 1


async def test_as_many_sessions_as_may_be(either):
    evicting, refusing = either.sessions(max_per_user=2), either.sessions(max_per_user=2, when_full="refuse")
    one, two = await evicting.create(1), await evicting.create(1)
    with pytest.raises(TooManySessions, match="max_per_user"):
        await refusing.create(1)
    await either.execute("ZINCRBY", sessions_key(evicting, one).rpartition(":")[0] + ":index", -1000, one.token.digest)  # it ends first
    three = await evicting.create(1)
    assert {info.handle for info in await evicting.list_for(1)} == {two.handle, three.handle}
    with pytest.raises(SessionNotFound):
        await evicting.load(one.id)
    for _ in range(5):
        await refusing.create()  # visitors are not counted


async def test_a_session_ends(either, prefix):
    sessions = either.sessions(idle_timeout="300ms", absolute_timeout="500ms", touch_every="10ms")
    session = await sessions.create(1, {"a": 1})
    left = [await sessions.load(session.id)]

    async def gone():
        try:
            left.append(await sessions.load(session.id))
            await sessions.touch(left[-1])
        except (SessionNotFound, SessionGone):
            return True
        return False

    await until(gone)
    assert left[-1].last_seen - left[0].created_at < timedelta(milliseconds=520), "no touch goes beyond the absolute end"
    await until(lambda: all_gone(either, prefix, but="epoch"))


async def all_gone(bay, prefix, but):
    return [name for name in await names(bay, prefix) if not name.endswith(but)] == []


async def test_use_prolongs_at_most_once_in_touch_every(either):
    sessions = either.sessions(touch_every="1h", idle_timeout="2h")
    session = await sessions.load((await sessions.create(1)).id)
    assert not await sessions.touch(session)
    session.record.seen -= 3_600_001
    assert await sessions.touch(session)
    assert not await sessions.touch(session)


async def test_remembered_sessions_live_longer(either):
    sessions = either.sessions(remember_for="90d")
    session = await sessions.create(1, remember_me=True)
    short = await sessions.create(1)
    assert session.expires_at - session.created_at == timedelta(days=90)
    key = sessions_key(sessions, session)
    assert 89 * 86_400_000 < await either.execute("PTTL", key) <= 90 * 86_400_000
    assert await either.execute("PTTL", key.rpartition(":")[0] + ":epoch") > 90 * 86_400_000
    assert await either.execute("PTTL", sessions_key(sessions, short)) <= 1_800_000


async def test_every_key_has_a_lifetime_at_every_step(either, prefix):
    sessions = either.sessions()

    async def check():
        found = await lifetimes(either, prefix)
        assert found
        assert all(left > 0 for left in found.values()), found

    session = await sessions.create(1, {"a": 1})
    await check()
    session.put("b", 2, ttl="1m")
    await sessions.save(session)
    await check()
    session = await sessions.regenerate(session, user_id=2)
    await check()
    await sessions.destroy_for(2, except_=session.id)
    await check()
    await sessions.destroy_for(2)
    await check()


async def test_items_may_end_before_the_session(either):
    sessions = either.sessions()
    session = await sessions.create(1, {"stays": 1})
    session.put("code", [123], ttl="150ms")
    session.put("later", 1, ttl="1h")
    await sessions.save(session)
    held = await sessions.load(session.id)
    assert held["code"] == [123]

    async def ended():
        return "code" not in await sessions.load(session.id)

    await until(ended)
    again = await sessions.load(session.id)
    assert set(again) == {"stays", "later"}
    assert not again.modified
    again["stays"] = 2
    await sessions.save(again)
    fields = await either.execute("HGETALL", sessions_key(sessions, session))
    assert {field for field in fields if field[:1] in b"=!"} == {b"=stays", b"=later", b"!=later"}


async def test_a_change_inside_keeps_the_end_and_an_assignment_takes_it_away(either):
    sessions = either.sessions()
    session = await sessions.create(1)
    session.put("inside", [1], ttl="1h")
    session.put("assigned", [1], ttl="1h")
    await sessions.save(session)
    ends = dict((await sessions.load(session.id)).record.lives)
    held = await sessions.load(session.id)
    held["inside"].append(2)
    held["assigned"] = [2]
    await sessions.save(held)
    assert (await sessions.load(session.id)).record.lives == {"=inside": ends["=inside"]}
    moved = await sessions.regenerate(await sessions.load(session.id))
    assert (await sessions.load(moved.id)).record.lives == {"=inside": ends["=inside"]}


async def test_another_user_gets_neither_the_forms_secret_nor_the_proof_of_the_one_before(either):
    """Whoever planted the visitor's id may have read the token of its forms."""
    sessions = either.sessions()
    visitor = await sessions.create(None, {"cart": [1]})
    planted = visitor.csrf_token
    user = await sessions.regenerate(visitor, user_id=42)
    assert not user.check_csrf(planted)
    assert user.csrf_token != planted
    user.authenticated()
    await sessions.save(user)
    same = await sessions.regenerate(user)
    assert same.check_csrf(user.csrf_token)
    assert same.is_fresh(60)
    assert dict(same) == {"cart": [1]}
    for other in (await sessions.regenerate(same, user_id=43), await sessions.regenerate(await sessions.create(42), remember_me=True)):
        assert not other.is_fresh(60)
        assert not (await sessions.load(other.id)).is_fresh(60)


async def test_time_goes_on_for_who_holds_a_session(either, monkeypatch):
    """As a WebSocket does, also one that began the session itself."""
    sessions, ahead = either.sessions(touch_every="1m"), 0.0
    monkeypatch.setattr(session_module, "monotonic", lambda: time.monotonic() + ahead)

    async def begun():
        return await sessions.create(42)

    async def moved():
        return await sessions.regenerate(await begun())

    async def loaded():
        return await sessions.load((await begun()).id)

    for make in (begun, moved, loaded):
        ahead = 0.0
        held = await make()
        assert not await sessions.touch(held)
        held.authenticated()
        assert held.is_fresh(1)
        ahead = 61.0
        assert not held.is_fresh(60)
        assert await sessions.touch(held)
        assert not await sessions.touch(held)


async def test_a_proof_grows_old(either):
    sessions = either.sessions()
    session = await sessions.create(42)
    session.authenticated()
    await sessions.save(session)
    await older(either, "10m")
    old = await sessions.load(session.id)
    assert old.is_fresh(11 * 60)
    assert not old.is_fresh(9 * 60)


async def test_flashes_and_csrf(either):
    sessions = either.sessions()
    session = await sessions.create()
    assert not session.check_csrf("")
    token = session.csrf_token
    session.flash("saved")
    session.flash({"n": 1}, "error")
    await sessions.save(session)
    again = await sessions.load(session.id)
    assert dict(again) == {}
    assert again.check_csrf(token)
    assert not again.check_csrf(token[:-1])
    assert not again.check_csrf(None)
    assert again.flashes() == [("info", "saved"), ("error", {"n": 1})]
    await sessions.save(again)
    assert (await sessions.load(session.id)).flashes() == []


async def test_sealed_items_are_secret_bound_to_their_place_and_keys_rotate(make_either, url, prefix):
    events = []
    bay = make_either(url, prefix=prefix, on_event=events.append)
    old, new = new_sealing_key(), new_sealing_key()
    before, both = bay.sessions(seal_keys=[old]), bay.sessions(seal_keys=[old, new])
    session = await before.create(1, {"card": "4111", "other": "x"})
    key = sessions_key(before, session)
    fields = await bay.execute("HGETALL", key)
    assert b"4111" not in b"".join(fields.values())
    again = await both.load(session.id)
    assert dict(again) == {"card": "4111", "other": "x"}
    again["card"] = "5500"
    await both.save(again)
    assert (await bay.sessions(seal_keys=[new]).load(session.id))["card"] == "5500"
    await bay.execute("HSET", key, "=other", (await bay.execute("HGET", key, "=card")))  # moved by somebody
    moved = await both.load(session.id)
    assert moved.get("other") is None
    assert [event.name for event in events if isinstance(event, SessionItemLost)] == ["other"]
    rotated = await both.regenerate(await both.load(session.id))
    assert dict(await both.load(rotated.id)) == {"card": "5500"}


async def test_a_planted_pickle_is_never_loaded(make_either, url, prefix):
    class Planted:
        def __reduce__(self):
            return (pytest.fail, ("it was loaded",))

    events = []
    bay = make_either(url, prefix=prefix, on_event=events.append)
    sessions = bay.sessions()
    session = await sessions.create(1, {"a": 1})
    key = sessions_key(sessions, session)
    await bay.execute("HSET", key, "=a", pickle.dumps(Planted()))
    assert (await sessions.load(session.id)).get("a") is None
    assert [type(event) for event in events] == [SessionItemLost]
    await bay.execute("HSET", key, "#v", pickle.dumps(Planted()))
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)
    assert SessionUnreadable in {type(event) for event in events}


@pytest.mark.parametrize("field", ["#v", "#u", "#e", "#s", "#a", "#i", "#c", "#d"])
@pytest.mark.parametrize("damage", ["missing", "junk"])
async def test_damaged_metadata_are_no_session(either, field, damage):
    sessions = either.sessions()
    session = await sessions.create(1)
    key = sessions_key(sessions, session)
    await (either.execute("HDEL", key, field) if damage == "missing" else either.execute("HSET", key, field, b"\xff{"))
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)


REFUSED = {
    "set": {1, 2},
    "tuple": (1,),
    "bytes": b"x",
    "an object": object(),
    "NaN": float("nan"),
    "inside": [{"a": {1}}],
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
async def test_what_would_not_come_back_is_refused_by_name(either, value):
    sessions = either.sessions()
    with pytest.raises(EncodeError, match="session item 'basket'"):
        await sessions.create(1, {"basket": value})
    session = await sessions.create(1, {"list": []})
    session["list"].append(value)
    with pytest.raises(EncodeError, match="session item 'list'"):
        await sessions.save(session)


@pytest.mark.parametrize("user", ["", "\n", "x" * 600, True, 1.5, None, b"x", "\ud800"], ids=repr)
async def test_user_ids_that_cannot_be_kept(either, user):
    sessions = either.sessions()
    with pytest.raises(InvalidKey, match="user id"):
        await sessions.list_for(user)
    if user is not None:
        with pytest.raises(InvalidKey, match="user id"):
            await sessions.create(user)


@pytest.mark.parametrize("name", ["", "\n", "x" * 300, 5, None], ids=repr)
async def test_names_that_cannot_be_kept(either, name):
    session = await either.sessions().create()
    with pytest.raises(InvalidKey, match="session item"):
        session[name] = 1


OPTIONS = {
    "idle beyond absolute": ({"idle_timeout": "2h", "absolute_timeout": "1h"}, SettingsError),
    "touch beyond idle": ({"touch_every": "1h"}, SettingsError),
    "no number": ({"max_per_user": 0}, SettingsError),
    "policy": ({"when_full": "shrug"}, SettingsError),
    "a short secret": ({"secret": "x"}, SettingsError),
    "unknown": ({"colour": 1}, TypeError),
}


@pytest.mark.parametrize(("options", "error"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_cannot_be_used(options, error, sync_bay):
    with pytest.raises(error):
        sync_bay.sessions(**options)


async def test_a_secret_hides_whose_a_session_is(either):
    plain, keyed = either.sessions(), either.sessions(secret="s" * 32)
    assert (await plain.create(1)).id[:32] == (await plain.create(1)).id[:32]
    assert (await keyed.create(1)).id[:32] != (await plain.create(1)).id[:32]
    assert len(await keyed.list_for(1)) == 1


@pytest.mark.parametrize("when", ["the start", "the first session"])
async def test_a_server_that_may_evict_is_warned_about(make_either, prefix, when):
    from forebay import EmbeddedServer

    events = []
    with EmbeddedServer(port=0) as server:
        bay = make_either(server.url, prefix=prefix, on_event=events.append)
        await bay.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        sessions = bay.sessions()
        await (bay.connect() if when == "the start" else sessions.create())
        await until(lambda: [event for event in events if isinstance(event, SessionsMayBeEvicted)])
        assert "noeviction" in events[-1].describe()
        await bay.close()


async def test_away_is_said_and_nobody_is_logged_out(make_either, prefix):
    bay = make_either("redis://127.0.0.1:1", prefix=prefix, required=False)
    sessions = bay.sessions()
    with pytest.raises(Unavailable):
        await sessions.load("0" * 32 + "." + "0" * 64)
    with pytest.raises(Unavailable):
        await sessions.create(1)


async def test_ten_thousand_sessions_of_one_user(bay, prefix):
    sessions = bay.sessions()
    made = []
    for _ in range(20):
        made += await asyncio.gather(*(sessions.create(1) for _ in range(500)))
    assert len(await sessions.list_for(1)) == 10_000
    assert await sessions.destroy_handle(1, made[77].handle)
    assert len(await sessions.list_for(1)) == 9_999
    assert await sessions.destroy_for(1, except_=made[5].id)
    assert [info.handle for info in await sessions.list_for(1)] == [made[5].handle]
    with pytest.raises(SessionNotFound):
        await sessions.load(made[9_999].id)
    with moved_clock(bay) as clock:
        await clock.advance("13h")
        names = await bay.execute("KEYS", f"{prefix}*")
        assert [name for name in names if not name.endswith(b":epoch")] == [], "no hash and no index outlives its sessions"
        await clock.advance("31d")
        assert await bay.execute("KEYS", f"{prefix}*") == []


async def test_typed_items(either):
    sessions = either.sessions()
    session = await sessions.create(1)
    session.put_as("at", datetime(2030, 1, 1, tzinfo=UTC))
    session.put_as("device", Device("a", "b"))
    await sessions.save(session)
    again = await sessions.load(session.id)
    assert again.get_as("at", datetime) == datetime(2030, 1, 1, tzinfo=UTC)
    assert again.get_as("device", Device) == Device("a", "b")
    assert again.get_as("none", Device) is None
    with pytest.raises(Exception, match="session item 'at' is no Device"):
        again.get_as("at", Device)


async def test_accessed_and_modified(either):
    sessions = either.sessions()
    session = await sessions.load((await sessions.create(1, {"a": 1})).id)
    for look in (lambda: session.user_id, lambda: session.handle, lambda: session.expires_at, lambda: repr(session)):
        look()
    assert not session.accessed
    for look in (lambda s: "a" in s, len, list, lambda s: s.get("a"), bool):
        fresh = await sessions.load(session.id)
        look(fresh)
        assert fresh.accessed
        assert not fresh.modified
