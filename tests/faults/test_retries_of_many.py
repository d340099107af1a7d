"""Scripts, pipelines and transactions: refused places are repeated, in order, and nothing else; what may have run never is."""

import asyncio

import pytest

from forebay import AsyncForebay, Closed, ConnectionLost, EmbeddedServer, Forebay, NoScript, Refused, ServerError, Unavailable
from tests.calling import answers, arrived, finished, start
from tests.peer import Close, peer

PATIENT = "?min_idle=1&read_timeout=10s"
OK, QUEUED, LOADING = b"+OK\r\n", b"+QUEUED\r\n", b"-LOADING in memory\r\n"
NOSCRIPT = b"-NOSCRIPT No matching script\r\n"


def script_of(bay, source):
    """A script of *bay*, as a coroutine function in both colours."""
    if not hasattr(bay, "wrapped"):
        return bay.script(source)
    bound = bay.wrapped.script(source)

    async def call(*args, **options):
        return bound(*args, **options)

    return call


@pytest.mark.parametrize("first", [(), (NOSCRIPT,)], ids=["by its digest", "by its source"])
async def test_a_script_with_an_unknown_outcome_is_repeated_only_if_it_is_idempotent(make_either, first):
    with peer(answers(*first, Close(), OK)) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(ConnectionLost):
            await script_of(bay, "return 1")(keys=["k"])
        assert len(other.commands) == 1 + len(first)
    with peer(answers(*first, Close(), OK)) as other:
        bay = make_either(other.url + PATIENT)
        assert await script_of(bay, "return 1")(keys=["k"], idempotent=True) == b"OK"
        assert len(other.commands) == 2 + len(first)


async def test_a_script_that_the_server_lost_is_sent_once_with_its_source(make_either):
    with peer(answers(NOSCRIPT, b":1\r\n")) as other:
        bay = make_either(other.url + PATIENT)
        assert await script_of(bay, "return 1")(keys=["k"], args=["a"]) == 1
        assert [command[0] for command in other.commands] == [b"EVALSHA", b"EVAL"]
        assert other.commands[1][1:] == [b"return 1", b"1", b"k", b"a"]
    with peer(answers(NOSCRIPT)) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(NoScript):
            await script_of(bay, "return 1")()
        assert len(other.commands) == 2


async def test_a_script_that_was_refused_is_repeated(make_either):
    with peer(answers(b"-BUSY running a script\r\n", NOSCRIPT, LOADING, b":1\r\n")) as other:
        bay = make_either(other.url + PATIENT)
        assert await script_of(bay, "return 1")() == 1
        assert [command[0] for command in other.commands] == [b"EVALSHA", b"EVALSHA", b"EVAL", b"EVAL"]


def refusing(counts):
    """A script that refuses each key as often as *counts* says, and then answers with the key."""
    left = dict(counts)

    def script(command):
        key = command[1]
        if left.get(key, 0):
            left[key] -= 1
            return b"-TRYAGAIN not now\r\n"
        return b"$%d\r\n%b\r\n" % (len(key), key)

    return script


async def test_of_a_pipeline_only_the_refused_places_are_sent_again_and_in_order(make_either):
    with peer(refusing({b"b": 1, b"d": 3, b"e": 2})) as other:
        bay = make_either(other.url + PATIENT)
        keys = ["a", "b", "c", "d", "e", "f"]
        assert await bay.pipeline([("SET", key, 1) for key in keys]) == [key.encode() for key in keys]
        assert [command[1] for command in other.commands] == [key.encode() for key in [*keys, *"bdeded"]]
        assert bay.stats().wire.retries == 3


@pytest.mark.parametrize("errors", ["raise", "return"])
async def test_a_place_that_stays_refused_is_an_error_at_the_deadline(make_either, errors):
    with peer(refusing({b"b": 1000})) as other:
        bay = make_either(other.url + PATIENT)
        commands = [("SET", key, 1) for key in "abc"]
        if errors == "raise":
            with pytest.raises(Refused, match="TRYAGAIN") as caught:
                await bay.pipeline(commands, timeout="300ms")
            assert caught.value.__notes__ == ["command 1 of 3: 'SET'"]
        else:
            replies = await bay.pipeline(commands, timeout="300ms", errors="return")
            assert (replies[0], replies[2]) == (b"a", b"c")
            assert isinstance(replies[1], Refused)
        assert arrived(other, b"SET") > 4


async def test_what_waits_for_replicas_behind_a_refused_write_is_refused_for_a_moment_too(make_either):
    with peer(answers(LOADING, LOADING, OK, b":0\r\n")) as other:
        bay = make_either(other.url + PATIENT)
        assert await bay.pipeline([("SET", "k", "v"), ("WAIT", 0, 0)]) == [b"OK", 0]


async def test_a_pipeline_with_a_lasting_refusal_or_an_error_is_not_repeated(make_either):
    with peer(answers(OK, b"-OOM no memory\r\n", b"-WRONGTYPE no\r\n", OK)) as other:
        bay = make_either(other.url + PATIENT)
        replies = await bay.pipeline([("SET", "k", "v")] * 4, errors="return")
        assert [type(reply) for reply in replies] == [bytes, Refused, ServerError, bytes]
        assert arrived(other, b"SET") == 4


@pytest.mark.parametrize(
    ("commands", "idempotent", "times"),
    [
        ([("GET", "a"), ("GET", "b")], False, 2),
        ([("GET", "a"), ("SET", "b", 1)], False, 1),
        ([("GET", "a"), ("SET", "b", 1)], True, 2),
        ([("SET", "a", "v" * 100_000), ("SET", "b", 1)], False, 1),
        ([("SET", "a", "v" * 100_000), ("SET", "b", 1)], True, 2),
    ],
)
async def test_a_pipeline_that_was_cut_is_repeated_if_all_of_it_may_be(make_either, commands, idempotent, times):
    cut = [Close()]

    def script(command):
        if command[1] == b"b" and cut:
            raise cut.pop()
        return OK

    with peer(script) as other:
        bay = make_either(other.url + PATIENT)
        call = bay.pipeline(commands, idempotent=idempotent)
        if times == 1:
            with pytest.raises(ConnectionLost):
                await call
        else:
            assert await call == [b"OK", b"OK"]
        assert arrived(other, b"GET", b"SET") == 2 * times


@pytest.mark.parametrize("name", ["INCR", "GET"])
@pytest.mark.parametrize("at", [b"MULTI", b"b", b"EXEC"])
async def test_a_transaction_that_was_cut_is_never_repeated(make_either, name, at):
    def script(command):
        if at in command:
            raise Close
        return OK if command[0] == b"MULTI" else QUEUED

    with peer(script) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(ConnectionLost):
            await bay.transaction([(name, "a"), (name, "b")], timeout="300ms")
        assert arrived(other, b"MULTI") == 1
        assert bay.stats().wire.retries == 0


ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


@pytest.mark.parametrize(
    "refused",
    [
        (LOADING, LOADING, LOADING, LOADING),
        (OK, LOADING, LOADING, ABORTED),
        (OK, QUEUED, b"-READONLY a replica\r\n", ABORTED),
        (OK, QUEUED, QUEUED, b"-TRYAGAIN slots move\r\n"),
    ],
    ids=["as a whole", "in its commands", "in its last command", "at its end"],
)
async def test_a_transaction_that_was_refused_is_repeated_as_a_whole(make_either, refused):
    with peer(answers(*refused, *refused, OK, QUEUED, QUEUED, b"*2\r\n:1\r\n:2\r\n")) as other:
        bay = make_either(other.url + PATIENT)
        assert await bay.transaction([("INCR", "a"), ("INCR", "b")]) == [1, 2]
        assert [command[0] for command in other.commands] == [b"MULTI", b"INCR", b"INCR", b"EXEC"] * 3
        assert bay.stats().wire.retries == 2


async def test_a_transaction_whose_commands_ran_without_it_is_never_repeated(make_either):
    """A server, or what stands before it, may refuse MULTI alone: then the commands behind it have run, each for itself."""
    with peer(answers(LOADING, b":1\r\n", b":1\r\n", b"-ERR EXEC without MULTI\r\n")) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(Unavailable):
            await bay.transaction([("INCR", "a"), ("INCR", "b")])
        assert arrived(other, b"INCR") == 2


async def test_without_the_right_to_begin_a_transaction_none_of_it_runs(make_either, prefix):
    with EmbeddedServer(port=0) as server:
        url = server.url.replace("redis://", "redis://app:secret@")
        admin = await make_either(server.url).connect()
        await admin.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-multi")
        bay = make_either(url)
        with pytest.raises(ServerError, match="NOPERM"):
            await bay.transaction([("SET", f"{prefix}a", 1), ("SET", f"{prefix}b", 1)])
        assert await admin.execute("EXISTS", f"{prefix}a", f"{prefix}b") == 0
        await admin.close()
        await bay.close()


async def test_callers_in_the_middle_of_a_change_of_servers_never_hear_that_the_bay_is_closed(make_either):
    """READONLY gives the connections up, for the name may stand for another server; who was on them calls again."""
    turns = iter(range(1_000_000))

    def script(command):
        return b"-READONLY a replica\r\n" if next(turns) % 50 == 49 else OK

    with peer(script) as other:
        bay = make_either(other.url + PATIENT + "&max_in_flight=4")

        async def work():
            for _ in range(40):
                await bay.execute("SET", "k", "v")

        results = await finished(*(start(bay, work()) for _ in range(16)))
        assert [result for result in results if isinstance(result, Closed)] == []
        assert results == [None] * 16


@pytest.mark.parametrize("colour", [AsyncForebay, Forebay])
async def test_a_change_of_servers_gives_the_old_connections_up(colour):
    with peer(answers(b"-READONLY a replica\r\n", OK)) as other:
        bay = colour(other.url + PATIENT)
        if colour is Forebay:
            assert await asyncio.to_thread(bay.execute, "SET", "k", "v") == b"OK"
            bay.close()
        else:
            assert await bay.execute("SET", "k", "v") == b"OK"
            await bay.close()
        assert len(other.connections) == 2
        assert bay.stats().wire.connections == 0
