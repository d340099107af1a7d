"""A bay over a client of one's own does what a bay does, whatever that client's settings, and leaves the client as it was."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from forebay import (
    AsyncForebay,
    Closed,
    Forebay,
    InvalidCommand,
    NoScript,
    ServerError,
    SettingsError,
)
from tests.either import Either, as_either
from tests.own_clients import BOTH, KINDS, appearance, ended, result

BINARY = bytes(range(256))


@pytest.fixture(params=KINDS, ids=str)
def kind(request):
    return request.param


@pytest.fixture
async def client(kind, url):
    made = kind.client(url)
    yield made
    await ended(made)


@pytest.fixture
async def bay(kind, client, prefix):
    opened = await as_either(kind.bay(client, prefix=prefix)).connect()
    yield opened
    await opened.close()


# what a bay does


async def test_a_cache(bay, prefix):
    users = bay.cache("user", type=dict[str, int], ttl=60)
    assert await users.get_or_set(1, lambda: {"n": 1}) == {"n": 1}
    assert await users.get_or_set(1, lambda: pytest.fail("loaded")) == {"n": 1}
    await users.set_many({2: {"n": 2}, 3: {"n": 3}})
    assert await users.get_many([1, 2, 3, 4]) == {1: {"n": 1}, 2: {"n": 2}, 3: {"n": 3}}
    assert await users.add(1, {"n": 9}) is False
    assert await users.expire(1, None) is True
    assert 59 < await users.ttl(2) <= 60
    assert await users.delete(1, 7) == 1
    assert await bay.execute("GET", f"{prefix}user:2") == b'{"n":2}'
    assert await users.clear() == 2


async def test_arguments_and_replies_are_bytes_as_on_forebays_own_wire(kind, url, prefix):
    made = kind.client(url, encoding="latin-1")
    bay = as_either(kind.bay(made))
    async with AsyncForebay(url) as own:
        for value, stored in ((BINARY, BINARY), ("Größe", "Größe".encode()), (5, b"5"), (0.1, b"0.1"), (memoryview(b"m"), b"m")):
            assert await bay.execute("SET", f"{prefix}ä", value) == b"OK"
            assert await bay.execute("GET", f"{prefix}ä") == stored == await own.execute("GET", f"{prefix}ä")
        assert await bay.execute(b"mget", f"{prefix}ä", f"{prefix}nothing") == [b"m", None]
    await ended(made)


async def test_replies_have_the_shapes_of_resp3(bay, prefix):
    hash_, set_, sorted_ = f"{prefix}h", f"{prefix}s", f"{prefix}z"
    writes = [("HSET", hash_, "f", BINARY), ("SADD", set_, "a", "b"), ("ZADD", sorted_, 1.5, "m")]
    reads = [("HGETALL", hash_), ("SMEMBERS", set_), ("ZSCORE", sorted_, "m"), ("ZSCORE", sorted_, "n")]
    shapes = [{b"f": BINARY}, {b"a", b"b"}, 1.5, None]
    assert await bay.pipeline([*writes, *reads]) == [1, 2, 1, *shapes]
    assert await bay.transaction(reads) == shapes
    assert [await bay.execute(*read) for read in reads] == shapes
    assert await bay.execute("EXISTS", hash_) == 1
    cursor, names = await bay.execute("SCAN", 0, "MATCH", f"{prefix}*", "COUNT", 100_000)
    assert (cursor, sorted(names)) == (b"0", sorted(name.encode() for name in (hash_, set_, sorted_)))
    assert b"# Server" in await bay.execute("INFO", "server")


class ServerErrorLike:
    """Equal to a `ServerError` with these words."""

    def __init__(self, words):
        self.words = words

    def __eq__(self, other):
        return isinstance(other, ServerError) and str(other).startswith(self.words)

    def __hash__(self):
        return hash(self.words)


async def test_refusals_have_their_code(bay, prefix):
    await bay.execute("SET", f"{prefix}text", "x")
    for command, code in (
        (("LPUSH", f"{prefix}text", 1), "WRONGTYPE"),
        (("INCR", f"{prefix}text"), "ERR"),
        (("NOSUCH", "x"), "ERR"),
        (("GET",), "ERR"),
        (("CONFIG", "SET", "maxmemory", "plenty"), "ERR"),
        (("BITOP", "NOT", "d", "a", "b"), "ERR"),
        (("EVALSHA", "0" * 40, 0), "NOSCRIPT"),
        (("EVAL", "return redis.error_reply('MINE own words')", 0), "MINE"),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", f"{prefix}none", ">"), "NOGROUP"),
    ):
        with pytest.raises(ServerError) as caught:
            await bay.execute(*command)
        assert caught.value.code == code, command
        assert caught.value.__cause__ is not None
    assert await bay.execute("EVAL", "return {1, redis.error_reply('MINE x'), {redis.error_reply('MINE y')}}", 0) == [
        1,
        ServerErrorLike("MINE x"),
        [ServerErrorLike("MINE y")],
    ]


async def test_a_pipeline_returns_or_raises_refusals(bay, prefix):
    commands = [("SET", f"{prefix}k", BINARY), ("INCR", f"{prefix}k"), ("GET", f"{prefix}k"), ("EVALSHA", "0" * 40, 0)]
    ok, refusal, value, unknown = await bay.pipeline(commands, errors="return")
    assert (ok, refusal.code, value, type(unknown)) == (b"OK", "ERR", BINARY, NoScript)
    with pytest.raises(ServerError, match="not an integer"):
        await bay.pipeline(commands)
    assert await bay.pipeline([]) == []


async def test_a_transaction_runs_whole_or_not_at_all(bay, prefix):
    key = f"{prefix}k"
    ok, refusal, value = await bay.transaction([("SET", key, BINARY), ("INCR", key), ("GET", key)], errors="return")
    assert (ok, refusal.code, value) == (b"OK", "ERR", BINARY)
    with pytest.raises(ServerError, match="wrong number of arguments") as caught:
        await bay.transaction([("SET", key, "other"), ("GET",)])
    assert caught.value.code == "ERR"
    assert await bay.execute("GET", key) == BINARY
    with pytest.raises(InvalidCommand, match="does not block in a transaction"):
        await bay.transaction([("BLPOP", key, 1)])


async def test_a_script_is_sent_once_and_again_when_the_server_lost_it(bay, prefix):
    count = bay.wrapped.script if isinstance(bay, Either) else bay.script
    script = count("return {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2]}")
    for total in (2, 4):
        await bay.execute("SCRIPT", "FLUSH")
        assert await result(script([f"{prefix}n"], [2, BINARY])) == [total, BINARY]


async def test_messages_arrive_as_bytes(bay, prefix):
    subscribe = bay.wrapped.subscribe if isinstance(bay, Either) else bay.subscribe
    messages = subscribe(f"{prefix}news", patterns=[f"{prefix}p.*"])
    await result(messages.__enter__() if isinstance(bay, Either) else messages.__aenter__())
    assert await bay.execute("PUBLISH", f"{prefix}news", BINARY) == 1
    assert await bay.execute("PUBLISH", f"{prefix}p.1", "x") == 1
    first, second = await result(messages.get(5)), await result(messages.get(5))
    assert (first.channel, first.data, first.pattern) == (f"{prefix}news", BINARY, None)
    assert (second.channel, second.data, second.pattern) == (f"{prefix}p.1", b"x", f"{prefix}p.*")
    assert await result(messages.get(0.001)) is None
    await result(messages.close())
    with pytest.raises(Closed):
        await result(messages.get(1))


async def test_what_would_change_a_shared_connection_or_is_no_command_is_refused(bay):
    for command, words in (
        (("SELECT", 1), "changes the connection"),
        (("CLIENT", "REPLY", "OFF"), "changes the connection"),
        (("GET", object()), "argument 1 of GET is object"),
        (("CONFIG GET", "maxmemory"), "one word"),
        (("", "PING"), "one word"),
        ((), "at least its name"),
    ):
        with pytest.raises(InvalidCommand, match=words):
            await bay.execute(*command)


async def test_stats_and_the_end_of_a_bay(bay, client):
    await bay.cache("user", ttl=60).get_or_set(1, lambda: 1)
    stats = bay.stats()
    assert stats.wire.connections >= 1
    assert stats.wire.in_flight == 0
    assert stats.wire.latency["GET"].count == 1
    assert stats.caches["user"].loads == 1
    await bay.close()
    with pytest.raises(Closed, match="the client is not"):
        await bay.execute("PING")
    assert await result(client.ping()) is True


# what it leaves alone


async def test_the_client_is_neither_changed_nor_closed_nor_are_its_callbacks_used(kind, url, prefix):
    made = kind.client(url)
    made.set_response_callback("GET", lambda reply, **options: "by the callback")
    before = appearance(made)
    bay = await as_either(kind.bay(made, prefix=prefix)).connect()
    await bay.cache("user", ttl=60).get_or_set(1, lambda: 1)
    assert await bay.execute("GET", f"{prefix}user:1") == b"1"
    assert await bay.pipeline([("GET", f"{prefix}user:1")]) == await bay.transaction([("GET", f"{prefix}user:1")]) == [b"1"]
    await bay.close()
    assert appearance(made) == before
    assert await result(made.get(f"{prefix}user:1")) == "by the callback"
    assert await result(made.ping()) is True
    await ended(made)


async def test_a_clients_subclass_is_one_too(kind, url):
    base = kind.module.Redis
    made = type("Traced", (base,), {"__module__": "somewhere.else"}).from_url(url)
    assert await as_either(kind.bay(made)).ping() > 0
    await ended(made)


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_no_password_is_shown(kind):
    made = kind.module.Redis(host="db.example", username="app", password="hunter2", db=3)
    bay = kind.bay(made)
    shown = repr(bay) + repr(bay.settings) + repr(bay.port) + bay.settings.where
    assert "hunter2" not in shown
    assert f"{kind.family}-py" in repr(bay)
    assert "redis://db.example:6379/3" in repr(bay)


@pytest.mark.parametrize("kind", BOTH, ids=str)
def test_the_wrong_thing_is_refused_with_what_to_pass(kind):
    right, wrong = (Forebay, AsyncForebay) if kind.colour == "threads" else (AsyncForebay, Forebay)
    made = kind.module.Redis()
    with pytest.raises(SettingsError, match=rf"for {kind.colour}: give it to {right.__name__}\(client=...\)"):
        wrong(client=made)
    sentinels = importlib.import_module(f"{kind.module.__name__}.sentinel").Sentinel([("127.0.0.1", 1)])
    for other in (made.pipeline(), made.connection_pool, "redis://localhost", object(), made.pubsub(), sentinels):
        with pytest.raises(SettingsError, match=r"cannot use a .*: pass .*Redis.*master_for"):
            right(client=other)
    for more in ({"url": "redis://localhost"}, {"settings": right(client=made).settings}):
        with pytest.raises(TypeError, match="url, settings= or client="):
            right(client=made, **more)


def test_neither_package_is_imported_for_it():
    program = (
        "import sys, forebay.port.redispy, forebay.port.redispy_cluster, forebay.port.redispy_route; "
        "print([name for name in ('redis', 'valkey') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
