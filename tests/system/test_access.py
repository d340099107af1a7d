"""Accounts on Debian's redis-server: the rights that the docs list suffice, each is needed, and passwords change while a bay lives."""

from __future__ import annotations

import logging
import math
import re
import uuid
from pathlib import Path

import pytest

from forebay import ConnectFailed, EmbeddedServer, Forebay, ForebayError, ServerError, Settings
from forebay.events import ConnectionDropped, NameRefused
from tests.calling import finished, start
from tests.patience import served_again

pytestmark = pytest.mark.system

SECRET = "hunter2"
DOCS = Path(__file__).parents[2] / "docs" / "settings.md"
PREFIX = "shop:"


def listed_rules():
    """The smallest rule set, as the page on settings has it."""
    (block,) = re.findall(r"```text\n(ACL SETUSER app .*?)```", DOCS.read_text(), re.DOTALL)
    return block.split()[3:]


RULES = listed_rules()
COMMANDS = [rule for rule in RULES if rule.startswith("+")]


@pytest.fixture(scope="module")
def own_server():
    """A server whose accounts may be changed."""
    with EmbeddedServer(port=0) as server:
        yield server


@pytest.fixture
def admin(own_server):
    with Forebay(own_server.url) as bay:
        yield bay
        bay.execute("ACL", "DELUSER", "app")


@pytest.fixture
def where(own_server):
    return str(own_server.address())


def account(admin, *rules, password=SECRET):
    admin.execute("ACL", "SETUSER", "app", "reset", *[f">{password}" if rule == ">password" else rule for rule in rules])


def rotated(admin, old, new):
    """The old password is valid no longer, and whoever came in with it is thrown out."""
    admin.execute("ACL", "SETUSER", "app", f"<{old}", f">{new}")
    admin.execute("CLIENT", "KILL", "USER", "app")


async def every_operation(bay):
    cache = bay.cache(f"user{uuid.uuid4().hex[:8]}", ttl="15m", on_outage="raise")
    await cache.set(1, "one")
    assert await cache.get(1) == "one"
    assert await cache.fetch(1) == "one"
    assert await cache.get_or_set(2, lambda: "two") == "two"
    await cache.set_many({3: "three", 4: "four"})
    assert await cache.get_many([1, 3, 5]) == {1: "one", 3: "three"}
    assert await cache.add(1, "other") is False
    assert await cache.add(6, "six") is True
    assert await cache.exists(1) is True
    assert await cache.expire(1, "1h") is True
    assert await cache.expire(1, None) is True
    assert await cache.ttl(1) == math.inf
    assert await cache.set(7, "seven", ttl=None) is None
    assert await cache.delete(1, 2) == 2
    assert await cache.delete_matching("3*") == 1
    assert await cache.clear() == 3
    kept = bay.cache(f"kept{uuid.uuid4().hex[:8]}", ttl="15m", stale_if_error="1m", on_outage="raise")
    await kept.set(1, "one", tags=["all"])
    assert await kept.get(1) == "one"
    assert await kept.mark_stale(1) is True
    assert await kept.get_or_set(1, lambda: "new", tags=["all"]) == "new"
    await kept.invalidate_tags("all")
    assert await kept.get_or_set(1, lambda: "newer", tags=["all"]) == "newer"
    assert await kept.get(1) == "newer"
    assert await bay.ping() > 0


async def test_the_rights_of_the_docs_suffice(make_either, admin, where):
    account(admin, *RULES)
    events = []
    bay = await make_either(f"redis://app:{SECRET}@{where}", prefix=PREFIX, on_event=events.append).connect()
    assert await bay.execute("PING") == b"PONG"
    await every_operation(bay)
    assert events == []


@pytest.mark.parametrize("rule", [*(rule for rule in COMMANDS if not rule.startswith("+client|")), "~shop:*"])
async def test_each_right_of_the_docs_is_needed(make_either, admin, where, rule):
    account(admin, *(each for each in RULES if each != rule))
    admin.execute("SCRIPT", "FLUSH")
    events = []
    bay = make_either(f"redis://app:{SECRET}@{where}", prefix=PREFIX, on_event=events.append)
    with pytest.raises((ForebayError, AssertionError)) as caught:
        await bay.connect()
        await every_operation(bay)
        assert events == []
    told = str(caught.value) + "".join(event.describe() for event in events)
    # outside of scripts, in a script of Valkey, in a script of Redis 7.0
    assert any(words in told for words in ("NOPERM", "ACL failure", "can't run this command"))


async def test_without_the_right_to_a_name_all_works_and_it_is_reported(make_either, admin, where):
    account(admin, *(rule for rule in RULES if rule != "+client|setname"))
    events = []
    bay = await make_either(f"redis://app:{SECRET}@{where}", prefix=PREFIX, on_event=events.append).connect()
    await every_operation(bay)
    assert {type(event) for event in events} == {NameRefused}
    assert SECRET not in "".join(event.describe() + repr(event) for event in events)


async def test_keys_of_others_are_out_of_reach(make_either, admin, where):
    account(admin, *RULES)
    bay = await make_either(f"redis://app:{SECRET}@{where}", prefix="other:").connect()
    with pytest.raises(ServerError, match="NOPERM") as caught:
        await bay.cache("user", ttl=60, on_outage="raise").set(1, "one")
    assert SECRET not in told(caught.value)


async def whoami(bay):
    return await bay.execute("ACL", "WHOAMI")


async def test_user_and_password_of_the_url(make_either, admin, where):
    account(admin, "on", ">p@ss/w:r#d?&%", "+@all", "~*")
    bay = await make_either(f"redis://app:p%40ss%2Fw%3Ar%23d%3F%26%25@{where}").connect()
    assert await whoami(bay) == b"app"


def holder(kind, tmp_path):
    """Where the password is kept: return the settings that look there, and what changes it."""
    file, kept = tmp_path / "password", {}

    def change(password):
        kept["password"] = password
        new = tmp_path / "password.new"
        new.write_text(password + "\n")
        new.replace(file)

    if kind == "file":
        return {"password_file": str(file)}, change
    return {"password": lambda: kept["password"]}, change


@pytest.mark.parametrize("kind", ["function", "file"])
async def test_a_password_changes_while_the_bay_lives(make_either, admin, where, tmp_path, kind, caplog):
    caplog.set_level(logging.DEBUG)
    options, change = holder(kind, tmp_path)
    events = []
    account(admin, "on", ">password", "+@all", "~*", password="secret-0")
    change("secret-0")
    settings = Settings.from_url(f"redis://app@{where}", {}).replace(**options)
    bay = await make_either(settings=settings, on_event=events.append).connect()
    for turn in range(1, 4):
        assert await whoami(bay) == b"app"
        change(f"secret-{turn}")
        rotated(admin, f"secret-{turn - 1}", f"secret-{turn}")
        # the first call may still be sent on a connection that is being closed; a read is repeated on a new one
        assert await bay.execute("EXISTS", "k") in (0, 1)
        assert await finished(*(start(bay, bay.execute("EXISTS", "k")) for _ in range(16))) in ([0] * 16, [1] * 16)
    assert {type(event) for event in events} <= {ConnectionDropped}
    assert "secret-" not in "".join(event.describe() + told(event.cause) + repr(event) for event in events) + caplog.text


async def test_an_old_password_is_refused_until_the_new_one_is_there(make_either, admin, where, tmp_path):
    options, change = holder("file", tmp_path)
    account(admin, "on", ">password", "+@all", "~*", password="secret-0")
    change("secret-0")
    bay = await make_either(settings=Settings.from_url(f"redis://app@{where}?min_idle=1", {}).replace(**options)).connect()
    rotated(admin, "secret-0", "secret-1")
    with pytest.raises(ConnectFailed, match="WRONGPASS") as caught:
        await bay.execute("EXISTS", "k", timeout="200ms")
    assert "secret-" not in told(caught.value)
    change("secret-1")
    assert await served_again(lambda: whoami(bay)) == b"app"


def told(error):
    """Everything that can be printed of *error* and of what is behind it, also what a traceback leaves out."""
    seen, left, parts = set(), [error], []
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            parts += [str(one), repr(one), repr(one.args), repr(getattr(one, "__notes__", [])), repr(vars(one))]
            left += [one.__cause__, one.__context__]
    return "\n".join(parts)


@pytest.mark.parametrize("kind", ["url", "function", "file"])
async def test_a_wrong_password_is_told_nowhere(make_either, admin, where, tmp_path, kind, caplog):
    caplog.set_level(logging.DEBUG)
    account(admin, "on", ">password", "+@all", "~*", password="the-right-one")
    events = []
    if kind == "url":
        settings = Settings.from_url(f"redis://app:{SECRET}@{where}", {})
    else:
        options, change = holder(kind, tmp_path)
        change(SECRET)
        settings = Settings.from_url(f"redis://app@{where}", {}).replace(**options)
    bay = make_either(settings=settings.replace(read_timeout=0.5), on_event=events.append, required=False)
    await bay.connect()
    cache = bay.cache("user", ttl=60)
    assert await cache.get_or_set(1, lambda: "loaded") == "loaded", "the loader has it all the same"
    for _ in range(3):
        with pytest.raises(ConnectFailed, match="wrong password for user 'app'") as caught:
            await bay.execute("GET", "k")
        assert SECRET not in told(caught.value)
    assert events
    assert SECRET not in "".join(event.describe() + repr(event) + told(event.cause) for event in events)
    assert caplog.records
    assert SECRET not in caplog.text
    assert SECRET not in repr(bay) + repr(bay.settings) + repr(bay.stats())


async def test_a_wrong_password_opens_the_breaker(make_either, admin, where):
    """A server that refuses us again and again is left alone, whatever it says meanwhile: nobody waits for it, and it is not flooded."""
    account(admin, "on", ">password", "+@all", "~*", password="the-right-one")
    bay = await make_either(f"redis://app:{SECRET}@{where}?read_timeout=1s", required=False).connect()
    before = int(re.search(r"total_connections_received:(\d+)", admin.execute("INFO", "stats").decode())[1])
    with pytest.raises(ConnectFailed):
        await bay.execute("GET", "k")
    assert bay.stats().wire.nodes[0].breaker == "open"
    after = int(re.search(r"total_connections_received:(\d+)", admin.execute("INFO", "stats").decode())[1])
    assert after - before <= 5


async def test_no_password_where_one_is_needed_is_explained(make_either, admin, own_server):
    admin.execute("CONFIG", "SET", "requirepass", SECRET)
    try:
        with pytest.raises(ConnectFailed, match=r"none is configured here; set .*REDIS_PASSWORD"):
            await make_either(own_server.url).connect()
        assert await whoami(await make_either(own_server.url.replace("//", f"//:{SECRET}@")).connect()) == b"default"
    finally:
        admin.execute("CONFIG", "SET", "requirepass", "")
