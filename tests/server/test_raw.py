"""Raw commands: pipelines keep their order, transactions have nothing in between, scripts run once."""

import asyncio

import pytest

from forebay import InvalidCommand, ServerError
from tests.calling import start


def script_of(bay, source):
    """A script of *bay*, as a coroutine function in both colours."""
    if not hasattr(bay, "wrapped"):
        return bay.script(source)
    bound = bay.wrapped.script(source)

    async def call(*args, **options):
        return bound(*args, **options)

    return call


async def test_a_pipeline_answers_in_its_order(either, prefix):
    key = f"{prefix}k"
    replies = await either.pipeline([("SET", key, 1), ["INCR", key], (b"GET", key), ("HSET", key + "h", "f", 1.5), ("HGETALL", key + "h")])
    assert replies == [b"OK", 2, b"2", 1, {b"f": b"1.5"}]
    assert await either.pipeline([]) == []
    assert await either.transaction([]) == []
    assert await either.pipeline([("ECHO", str(number)) for number in range(100)], timeout="5s") == [
        b"%d" % number for number in range(100)
    ]


async def test_an_error_in_a_pipeline_leaves_the_others_done(either, prefix):
    key = f"{prefix}k"
    commands = [("SET", key, "x"), ("INCR", key), ("NOSUCH", "a"), ("APPEND", key, "y")]
    with pytest.raises(ServerError, match="not an integer") as caught:
        await either.pipeline(commands)
    assert caught.value.__notes__ == ["command 1 of 4: 'INCR'"]
    assert await either.execute("GET", key) == b"xy"
    replies = await either.pipeline(commands, errors="return")
    assert (replies[0], replies[3]) == (b"OK", 2)
    assert [error.code for error in replies[1:3]] == ["ERR", "ERR"]
    assert not hasattr(replies[1], "__notes__")


async def test_many_commands_and_many_bytes_in_one_pipeline(either, prefix):
    keys = [f"{prefix}{number}" for number in range(10_000)]
    assert await either.pipeline([("SET", key, key, "PX", 60_000) for key in keys]) == [b"OK"] * 10_000
    assert await either.pipeline([("GET", key) for key in keys]) == [key.encode() for key in keys]
    assert await either.pipeline([("UNLINK", key) for key in keys]) == [1] * 10_000
    values = [b"%d:" % number + b"v" * 200_000 for number in range(40)]
    await either.pipeline([("SET", f"{prefix}{number}", value, "PX", 60_000) for number, value in enumerate(values)])
    assert await either.pipeline([("GET", f"{prefix}{number}") for number in range(40)]) == values
    assert await either.transaction([("GETDEL", f"{prefix}{number}") for number in range(40)]) == values
    assert either.stats().wire.dropped == 0


WRONG = {
    "no command": [()],
    "an empty list": [("PING",), []],
    "text": ["PING"],
    "bytes": [b"PING"],
    "None": [None],
    "a number": [5],
    "None within": [("SET", "k", None)],
    "a bool within": [("SET", "k", True)],
    "a list within": [("SET", "k", ["v"])],
    "text for all": "PING",
    "bytes for all": b"PING",
    "None for all": None,
}


@pytest.mark.parametrize("method", ["pipeline", "transaction"])
@pytest.mark.parametrize("commands", WRONG.values(), ids=WRONG)
async def test_what_is_no_list_of_commands_is_refused_before_anything_is_sent(either, method, commands):
    await either.execute("PING")
    before = either.stats().wire.bytes_sent
    with pytest.raises(TypeError):  # InvalidCommand is one
        await getattr(either, method)(commands)
    assert either.stats().wire.bytes_sent == before


@pytest.mark.parametrize("method", ["pipeline", "transaction"])
async def test_a_generator_of_commands_will_do(either, prefix, method):
    call = getattr(either, method)
    assert await call(("INCR", key) for key in [f"{prefix}a", f"{prefix}a"]) == [1, 2]
    with pytest.raises(ServerError, match="WRONGTYPE") as caught:
        await call((name, f"{prefix}a", 1) for name in ["SETNX", "LPUSH", "SETNX"])
    assert caught.value.__notes__ == ["command 1 of 3: 'LPUSH'"]


@pytest.mark.parametrize("method", ["pipeline", "transaction"])
@pytest.mark.parametrize("errors", ["ignore", "", None, True])
async def test_what_to_do_with_errors_is_one_of_two_words(either, method, errors):
    with pytest.raises(ValueError, match="use 'raise' or 'return'"):
        await getattr(either, method)([("PING",)], errors=errors)


async def test_a_transaction_has_nothing_in_between(make_either, url, prefix):
    bay = await make_either(url + "?read_timeout=20s").connect()
    one, two = f"{prefix}one", f"{prefix}two"
    done, uneven = [], []

    async def increment():
        for _ in range(10):
            done.append(await bay.transaction([("INCR", one), ("INCR", two)]))

    async def look():
        for _ in range(10):
            seen = await bay.transaction([("GET", one), ("PING",), ("GET", two)])
            if seen[0] != seen[2]:
                uneven.append(seen)

    await asyncio.gather(*(start(bay, work()) for _ in range(32) for work in (increment, look)))
    assert uneven == []
    assert sorted(done) == [[number, number] for number in range(1, 321)]
    assert await bay.execute("MGET", one, two) == [b"320", b"320"]
    assert bay.stats().wire.dropped == 0


@pytest.mark.parametrize("bad", [("NOSUCH", "a"), ("SET", "only a key")])
async def test_a_transaction_with_a_malformed_command_does_nothing_and_names_it(either, prefix, bad):
    for errors in ("raise", "return"):
        with pytest.raises(ServerError, match=rf"(?i){bad[0]}") as caught:
            await either.transaction([("SET", f"{prefix}a", 1), bad, ("SET", f"{prefix}b", 1)], errors=errors)
        assert caught.value.code == "ERR"
    assert await either.execute("EXISTS", f"{prefix}a", f"{prefix}b") == 0
    assert await either.execute("ECHO", "next") == b"next"


async def test_an_error_in_the_middle_of_a_transaction_leaves_the_others_done(either, prefix):
    key = f"{prefix}k"
    commands = [("SET", key, "x"), ("INCR", key), ("APPEND", key, "y")]
    with pytest.raises(ServerError, match="not an integer") as caught:
        await either.transaction(commands)
    assert caught.value.__notes__ == ["command 1 of 3: 'INCR'"]
    assert await either.execute("GET", key) == b"xy"
    replies = await either.transaction(commands, errors="return")
    assert (replies[0], replies[2]) == (b"OK", 2)
    assert isinstance(replies[1], ServerError)


async def test_nested_replies_of_a_transaction(either, prefix):
    assert await either.transaction([("RPUSH", f"{prefix}l", 1, 2), ("LRANGE", f"{prefix}l", 0, -1), ("GET", f"{prefix}none")]) == [
        2,
        [b"1", b"2"],
        None,
    ]
    large = b"v" * 100_000
    assert await either.transaction([("SET", f"{prefix}k", large), ("GET", f"{prefix}k")]) == [b"OK", large]


async def test_a_script_gets_its_keys_and_arguments(either, prefix):
    both = script_of(either, "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], #KEYS, #ARGV}")
    key = f"{prefix}k"
    assert await both(keys=[key, b"b"], args=["a", b"\x00\xff", 3]) == [key.encode(), b"b", b"a", b"\x00\xff", b"3", 2, 3]
    assert await both([key, "b"], ["a", 1.5, "ü"], timeout="5s") == [key.encode(), b"b", b"a", b"1.5", "ü".encode(), 2, 3]
    assert await script_of(either, "return redis.call('INCR', KEYS[1])")([key]) == 1
    assert await script_of(either, "return {1, 'two', {3}, false}")() == [1, b"two", [3], None]


async def test_a_script_that_the_server_lost_runs_once(either, prefix):
    count = script_of(either, "return redis.call('INCR', KEYS[1])")
    assert [await count([f"{prefix}n"]), await count([f"{prefix}n"])] == [1, 2]
    await either.execute("SCRIPT", "FLUSH")
    assert [await count([f"{prefix}n"]), await count([f"{prefix}n"])] == [3, 4]
    await either.execute("SCRIPT", "FLUSH")
    assert sorted(await asyncio.gather(*(start(either, count([f"{prefix}n"])) for _ in range(16)))) == list(range(5, 21))


async def test_errors_of_scripts_are_the_callers_own(either, prefix):
    for source, match in (
        ("return redis.error_reply('MINE went wrong')", "MINE went wrong"),
        ("this is no lua", "compiling script"),
        ("error('oh')", "oh"),
        ("return redis.call('NOSUCH')", "command"),
    ):
        with pytest.raises(ServerError, match=match):
            await script_of(either, source)()
    with pytest.raises(ServerError, match="WRONGTYPE"):
        await either.execute("SET", f"{prefix}k", 1)
        await script_of(either, "return redis.call('LPUSH', KEYS[1], 1)")([f"{prefix}k"])
    with pytest.raises(InvalidCommand):
        await script_of(either, "return 1")([None])
    with pytest.raises(InvalidCommand):
        await script_of(either, "return 1")([], [object()])
    assert await either.execute("PING") == b"PONG"


async def test_text_instead_of_a_list_of_keys_is_refused(either):
    """``script("key")`` would be three keys, one for each letter."""
    for wrong in ({"keys": "key"}, {"args": "arg"}, {"keys": b"key"}, {"args": b"arg"}):
        with pytest.raises(InvalidCommand):
            await script_of(either, "return #KEYS")(**wrong)


async def test_a_script_shows_its_digest_and_nothing_of_its_source(either):
    script = getattr(either, "wrapped", either).script("return 'secret'")
    assert "secret" not in repr(script)
    assert repr(script).startswith("<Bound")
    assert "17 characters" not in repr(script)
    assert "15 characters" in repr(script)


@pytest.mark.parametrize("wrong", [None, b"return 1", 5])
async def test_a_script_is_text(either, wrong):
    with pytest.raises((TypeError, InvalidCommand)):
        getattr(either, "wrapped", either).script(wrong)
