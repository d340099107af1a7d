"""No id, digest or secret is ever told: not by a repr, an error, an event or a log; and no name or value is more than data."""

import asyncio
import logging
import os
import re
import subprocess
import traceback

import pytest

from forebay import (
    DecodeError,
    EmbeddedServer,
    EncodeError,
    ForebayError,
    InvalidKey,
    SessionGone,
    SessionNotFound,
    new_sealing_key,
)

SECRET = "the-secret-of-all-tags-0123456789"


class Witness:
    """Hears all that is said, and knows what must not be."""

    def __init__(self):
        self.said = []
        self.secrets = {SECRET}

    def hears(self, event):
        self.said += [repr(event), str(event), event.describe()]

    async def tries(self, work):
        """Do it; what it raises is said too, with all that led to it."""
        try:
            result = await work
        except (ForebayError, KeyError) as error:
            self.said += [repr(error), *traceback.format_exception(error)]
            return None
        self.said.append(repr(result))
        return result

    def knows(self, session):
        """Keep what is secret of *session*."""
        self.secrets |= {session.id, session.id[33:], session.token.digest, session.csrf_token}
        self.said += [repr(session), str(session), repr(session.token), f"{session.token}"]
        return session

    def found(self, more):
        """Return what was told that must not be, with what stands around it."""
        text = "\n".join([*self.said, more])
        assert text
        return [re.sub(r"[0-9a-f]{24,}", "(secret)", text[max(0, text.find(each) - 99) :][:200]) for each in self.secrets if each in text]


async def everything(witness, sessions, damage):
    """Do all that can be done, rightly and wrongly; *damage* is called with a session's key."""
    one, two = [witness.knows(await sessions.create(7, {"list": [1], "n": 1}, "Firefox")) for _ in range(2)]
    await witness.tries(sessions.load(one.id))
    await witness.tries(sessions.load(one.id[:-1]))
    await witness.tries(sessions.load(one.id[:-1] + ("0" if one.id[-1] != "0" else "1")))
    await witness.tries(sessions.load(one.id + "\n"))
    one["list"].append({1, 2})
    await witness.tries(sessions.save(one))
    one["list"] = ["x" * 2_000_000]
    await witness.tries(sessions.save(one))
    one["list"] = [2]
    await witness.tries(sessions.save(one))
    stale = await sessions.load(two.id)
    two["n"] = 2
    await sessions.save(two)
    stale["n"] = 3
    await witness.tries(sessions.save(stale, check="version"))
    await witness.tries(sessions.list_for(7))
    await witness.tries(sessions.create("\n"))
    await damage(one)
    held = await witness.tries(sessions.load(one.id))
    if held is not None:
        await witness.tries(look(held, "n"))
    new = await witness.tries(sessions.regenerate(two, user_id=8, grace="1m"))
    witness.knows(new)
    await witness.tries(sessions.save(two))
    await witness.tries(sessions.regenerate(two))
    await witness.tries(sessions.destroy_handle(8, new.handle))
    await witness.tries(sessions.destroy(two.id))
    await witness.tries(sessions.destroy_for(7, except_=one.id))
    for gone in (one, two, new):
        gone["n"] = 9
        gone.record.seen = 0
        await witness.tries(sessions.save(gone))
        await witness.tries(sessions.touch(gone))
        await witness.tries(sessions.regenerate(gone))
    witness.said += [repr(sessions), repr(getattr(sessions, "wrapped", sessions))]


async def look(session, name):
    return session[name]


DAMAGES = {"an item": ("=n", "junk"), "metadata": ("#v", "junk"), "the device": ("#d", "junk"), "nothing": None}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
async def test_nothing_that_is_said_is_secret(make_either, url, prefix, caplog, damage, sealed):
    caplog.set_level(logging.DEBUG)
    witness = Witness()
    bay = await make_either(url, prefix=prefix, on_event=witness.hears).connect()
    options = {"seal_keys": [new_sealing_key()]} if sealed else {}
    sessions = bay.sessions(secret=SECRET, max_per_user=3, when_full="refuse", **options)

    async def harm(session):
        if damage is not None:
            await bay.execute("HSET", key_of(prefix, session), *damage)

    await everything(witness, sessions, harm)
    assert witness.found(caplog.text) == []


async def test_nothing_that_is_said_of_a_server_that_is_away_is_secret(make_either, prefix, caplog):
    caplog.set_level(logging.DEBUG)
    witness = Witness()
    with EmbeddedServer(port=0) as server:
        bay = await make_either(server.url, prefix=prefix, on_event=witness.hears, required=False).connect()
        sessions = bay.sessions(secret=SECRET)
        session = witness.knows(await sessions.create(7, {"n": 1}))
    session["n"] = 2
    session.record.seen = 0
    for work in (
        sessions.load(session.id),
        sessions.save(session),
        sessions.touch(session),
        sessions.regenerate(session),
        sessions.destroy(session.id),
        sessions.destroy_for(7, except_=session.id),
        sessions.destroy_handle(7, session.handle),
        sessions.list_for(7),
        sessions.create(7, {"n": 1}),
    ):
        await witness.tries(work)
    assert sum("Traceback" in said for said in witness.said) >= 9
    assert witness.found(caplog.text) == []


async def test_names_of_keys_hold_digests_and_no_users(either, prefix):
    sessions = either.sessions(secret=SECRET)
    session = await sessions.create("ada@example.org", {"n": 1})
    found = {name.decode().removeprefix(prefix) for name in await either.execute("KEYS", f"{prefix}*")}
    tag = session.id[:32]
    assert found == {f"session:{{{tag}}}:{session.token.digest}", f"session:{{{tag}}}:index", f"session:{{{tag}}}:epoch"}


def key_of(prefix, session):
    return f"{prefix}session:{{{session.id[:32]}}}:{session.token.digest}"


NAMES = [
    "#v",
    "#u",
    "#g",
    "#e",
    "=x",
    "!=x",
    "!x",
    "~csrf",
    "~proved",
    "~flash",
    "x",
    "{x}",
    "*",
    "%s",
    "'",
    "]]",
    "x y",
    "\u0660",
    "\U0001f600",
]


async def test_no_name_of_an_item_is_anything_else(either, prefix):
    sessions = either.sessions()
    session = await sessions.create(7, dict.fromkeys(NAMES, 1))
    token = session.csrf_token
    await sessions.save(session)
    again = await sessions.load(session.id)
    assert dict(again) == dict.fromkeys(NAMES, 1)
    assert (again.user_id, again.version, again.check_csrf(token), again.is_fresh(1e9), again.flashes()) == ("7", 2, True, False, [])
    for number, name in enumerate(NAMES):
        again.put(name, number, ttl="1h" if number % 2 else None)
    await sessions.save(again)
    for name in NAMES[::3]:
        del again[name]
    await sessions.save(again)
    last = await sessions.load(session.id)
    assert dict(last) == {name: number for number, name in enumerate(NAMES) if number % 3}
    assert set(last.record.lives) == {f"={name}" for number, name in enumerate(NAMES) if number % 3 and number % 2}
    assert 0 < await either.execute("PTTL", key_of(prefix, session)) <= 1_800_000
    moved = await sessions.regenerate(last, user_id=8)
    assert dict(await sessions.load(moved.id)) == dict(last)


HOSTILE = [
    "'] redis.call('FLUSHALL') --",
    "]] redis.call('FLUSHALL') --",
    "x\\n') return 1 --",
    "+99999999999999",
    "-inf",
    "nil",
    "${x}",
    "KEYS[1]",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_value_is_part_of_a_script(either, text):
    sessions = either.sessions(max_per_user=2)
    user = f"{text}{os.urandom(4).hex()}"
    session = await sessions.create(user, {text: text}, text)
    session.put(text, [text], ttl="1h")
    await sessions.save(session)
    again = await sessions.load(session.id)
    assert (dict(again), again.user_id, again.device.agent) == ({text: [text]}, user, text)
    moved = await sessions.regenerate(again)
    assert [(info.handle, info.device.agent) for info in await sessions.list_for(user)] == [(moved.handle, text)]
    assert not await sessions.destroy_handle(user, text)
    assert not await sessions.destroy_for(user, except_=text)
    assert await sessions.list_for(user) == []


@pytest.mark.parametrize("user", [1, -1, 10**40, "0", "a b", "a:b", "{a}", "*", "\U0001f600", "x" * 512, "%s", "None"], ids=repr)
async def test_users_are_themselves_and_nobody_else(either, user):
    sessions = either.sessions()
    await sessions.destroy_for(str(user))
    session = await sessions.create(user)
    assert (await sessions.load(session.id)).user_id == str(user)
    assert [info.handle for info in await sessions.list_for(str(user))] == [session.handle], "1 and '1' are one user"
    for other in (f"{user}0"[-512:] if len(str(user)) < 500 else "y", f"0{user}"[:500], f"{str(user)[:500]} "):
        assert await sessions.list_for(other) == []
    await sessions.destroy_for(user)


async def test_what_is_too_large_is_refused_whole(either):
    sessions = either.sessions(max_bytes=1000)
    session = await sessions.create(7, {"n": 1})
    session["n"], session["large"] = 2, "x" * 1001
    with pytest.raises(EncodeError, match="session item 'large'"):
        await sessions.save(session)
    assert dict(await sessions.load(session.id)) == {"n": 1}
    with pytest.raises(EncodeError, match="session item 'large'"):
        await sessions.create(7, {"large": "x" * 1001})
    with pytest.raises(InvalidKey, match="1 to 256 bytes") as caught:
        session["x" * 100_000] = 1
    assert len(str(caught.value)) < 200
    with pytest.raises(SessionNotFound):
        await sessions.load("0" * 50_000_000)


async def test_thousands_of_items_are_stored_and_moved(either):
    sessions = either.sessions()
    wanted = {f"item {number}": number for number in range(5000)}
    session = await sessions.create(7, wanted)
    for number in range(0, 5000, 2):
        del session[f"item {number}"]
    await sessions.save(session)
    moved = await sessions.regenerate(session, user_id=None)
    assert dict(await sessions.load(moved.id)) == {name: number for name, number in wanted.items() if number % 2}


async def test_what_is_said_of_the_client_is_cut_and_cannot_be_more(either):
    sessions = either.sessions()
    session = await sessions.create(7, device="a\r\nSet-Cookie: x\0\x1b[31m" + "x" * 10_000)
    (agent,) = [info.device.agent for info in await sessions.list_for(7) if info.handle == session.handle]
    assert len(agent) == 512
    assert agent.isprintable()


REDIS = "/usr/bin/redis-server"


def is_redis_70():
    if not os.access(REDIS, os.X_OK):
        return False
    said = subprocess.run([REDIS, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    return re.search(r"v=7\.[02]\.", said) is not None


@pytest.mark.skipif(not is_redis_70(), reason="needs a Redis without lifetimes of fields")
async def test_items_end_also_where_the_server_has_no_lifetimes_of_fields(make_either, prefix, monkeypatch):
    """HPEXPIREAT is not known there: the item is there still, and is not shown."""
    monkeypatch.setenv("FOREBAY_SERVER", REDIS)
    with EmbeddedServer(port=0) as server:
        bay = await make_either(server.url, prefix=prefix).connect()
        sessions = bay.sessions()
        session = await sessions.create(7, {"stays": 1})
        session.put("code", 123, ttl=0.05)
        session.put("later", 1, ttl="1h")
        await sessions.save(session)
        held = await sessions.load(session.id)
        while "code" in (again := await sessions.load(session.id)):
            await asyncio.sleep(0.01)
        assert dict(again) == {"stays": 1, "later": 1}
        assert not again.modified
        assert await bay.execute("HEXISTS", key_of(prefix, session), "=code") == 1
        again["stays"] = 2
        await sessions.save(again)
        assert await bay.execute("HEXISTS", key_of(prefix, session), "=code") == 0
        moved = await sessions.regenerate(held)
        assert "code" not in await sessions.load(moved.id)
        await sessions.destroy_for(7)
        with pytest.raises(SessionGone):
            await sessions.regenerate(moved)
        await bay.close()


DAMAGED = [(field, damage) for field in ("#v", "#a", "#i") for damage in (None, b"", b"junk", b"1.5", b"0x10")]


@pytest.mark.parametrize(("field", "damage"), [*DAMAGED, ("#u", None), ("#e", None), ("#e", b"junk")], ids=repr)
async def test_what_cannot_be_read_is_not_written_either(either, prefix, field, damage):
    """Whoever loaded it before somebody damaged it is told that it is gone, and nothing of the save is stored."""
    sessions = either.sessions()
    session = await sessions.create(7, {"n": 1})
    key = key_of(prefix, session)
    await (either.execute("HDEL", key, field) if damage is None else either.execute("HSET", key, field, damage))
    session["n"] = 2
    session.record.seen = 0
    for work in (sessions.touch, sessions.save):
        with pytest.raises(SessionGone):
            await work(session)
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)
    assert await either.execute("HGET", key, "=n") in (None, b"1")


async def test_a_damaged_item_is_named_without_its_key(either):
    session = await either.sessions().create(7, {"n": [1]})
    with pytest.raises(DecodeError) as caught:
        session.get_as("n", int)
    assert session.token.digest not in str(caught.value)
