"""What is repeated and what is not: a peer counts how often each command arrives. Nothing that may have run runs twice unasked."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from forebay import (
    ConnectionLost,
    DeadlineExceeded,
    InvalidDuration,
    OutcomeUnknown,
    Refused,
    ServerError,
    Unavailable,
)
from tests.calling import answers, arrived, finished, start, until
from tests.peer import Close, peer
from tests.proxy import Refuse, proxy_to

PATIENT = "?min_idle=1&read_timeout=10s"
OK, VALUE = b"+OK\r\n", b"$5\r\nvalue\r\n"


CUTS = {"before": Close(), "in its head": Close(b"$5"), "in its middle": Close(b"$5\r\nval"), "before its end": Close(b"$5\r\nvalue\r")}
READS = [("GET", "k"), (b"get", "k"), ("MGET", "k", "l"), ("LRANGE", "k", 0, -1), ("EVALSHA_RO", "0" * 40, 0), ("GET", "k" * 100_000)]
WRITES = [
    *[("SET", "k", "v"), ("INCR", "k"), ("DEL", "k"), ("GETDEL", "k"), ("GETEX", "k"), ("SPOP", "k"), ("PUBLISH", "k", "v")],
    *[
        ("EVALSHA", "0" * 40, 0),
        ("EVAL", "return 1", 0),
        ("SORT", "k"),
        ("FCALL", "f", 0),
        ("UNHEARD.OF", "k"),
        (b"set", "k", "v" * 100_000),
    ],
    *[("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", ">"), ("BLPOP", "k", 1), ("SUNIONSTORE", "k", "l"), ("GETSET", "k", "v")],
]


def name(command):
    word = command[0] if isinstance(command[0], str) else f"b{command[0].decode()}"
    return word + " large" * any(isinstance(arg, str) and len(arg) > 1000 for arg in command)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_read_whose_reply_was_cut_is_repeated(make_either, cut):
    with peer(answers(cut, cut, VALUE)) as other:
        bay = await make_either(other.url + PATIENT).connect()
        assert await bay.execute("GET", "k") == b"value"
        assert arrived(other, b"GET") == 3
        assert bay.stats().wire.retries == 2
        assert bay.stats().reported == {"ConnectionDropped": 2}


@pytest.mark.parametrize("command", READS, ids=name)
async def test_what_only_reads_is_repeated(make_either, command):
    with peer(answers(Close(), VALUE)) as other:
        bay = make_either(other.url + PATIENT)
        assert await bay.execute(*command) == b"value"
        assert len(other.commands) == 2


@pytest.mark.parametrize("command", WRITES, ids=name)
async def test_a_write_whose_reply_was_cut_arrives_once_and_its_outcome_is_unknown(make_either, command):
    with peer(answers(Close(), OK)) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(ConnectionLost) as caught:
            await bay.execute(*command)
        assert isinstance(caught.value, OutcomeUnknown)
        assert len(other.commands) == 1
        assert bay.stats().wire.retries == 0
        assert await bay.execute(*command, idempotent=True) == b"OK"


@pytest.mark.parametrize("command", [WRITES[0], WRITES[1], (b"set", "k", "v" * 100_000)], ids=name)
async def test_a_write_that_is_idempotent_is_repeated(make_either, command):
    with peer(answers(Close(), Close(b"+O"), OK)) as other:
        bay = make_either(other.url + PATIENT)
        assert await bay.execute(*command, idempotent=True) == b"OK"
        assert len(other.commands) == 3
        assert bay.stats().wire.retries == 2


async def test_a_cut_fails_the_writes_of_others_and_repeats_their_reads(make_either):
    def script(command):
        if command[0] == b"INCR":
            raise Close
        return VALUE

    with peer(script) as other:
        bay = make_either(other.url + PATIENT + "&pool_size=1")
        calls = [start(bay, bay.execute("INCR", "n")), *(start(bay, bay.execute("GET", f"k{number}")) for number in range(5))]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[0], ConnectionLost)
        assert results[1:] == [b"value"] * 5
        assert arrived(other, b"INCR") == 1


@pytest.mark.parametrize("code", ["LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "BUSY", "READONLY"])
async def test_what_the_server_cannot_do_for_a_moment_is_repeated(make_either, code):
    refusal = b"-%b not now\r\n" % code.encode()
    with peer(answers(refusal, refusal, refusal, OK)) as other:
        bay = make_either(other.url + PATIENT)
        assert await bay.execute("SET", "k", "v") == b"OK"
        assert arrived(other, b"SET") == 4
        assert bay.stats().wire.retries == 3


@pytest.mark.parametrize("code", ["OOM", "MISCONF", "NOREPLICAS"])
async def test_what_an_operator_must_mend_is_told_at_once(make_either, code):
    with peer(answers(b"-%b mend me\r\n" % code.encode())) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(Refused, match=f"{code} mend me"):
            await bay.execute("SET", "k", "v", idempotent=True)
        assert (len(other.commands), bay.stats().wire.retries) == (1, 0)


@pytest.mark.parametrize("code", ["ERR", "WRONGTYPE", "NOPERM", "LOADINGS"])
async def test_a_plain_error_is_told_at_once(make_either, code):
    with peer(answers(b"-%b no\r\n" % code.encode())) as other:
        bay = make_either(other.url + PATIENT)
        with pytest.raises(ServerError, match=f"{code} no"):
            await bay.execute("GET", "k")
        assert len(other.commands) == 1


@pytest.mark.parametrize(("query", "timeout"), [("?read_timeout=600ms", None), ("", "600ms"), ("?read_timeout=200ms", 0.6)])
async def test_a_lasting_refusal_is_raised_at_the_deadline_and_not_later(make_either, query, timeout):
    with peer(answers(b"-LOADING in memory\r\n")) as other:
        bay = await make_either(other.url + query).connect()
        began = time.monotonic()
        with pytest.raises(Refused, match="LOADING"):
            await bay.execute("SET", "k", "v", timeout=timeout)
        assert time.monotonic() - began < 1.2
        assert arrived(other, b"SET") > 2
        assert bay.stats().wire.retries == arrived(other, b"SET") - 1


@pytest.mark.parametrize("code", [b"LOADING", b"READONLY"])
async def test_the_last_moment_before_the_deadline_does_not_hide_the_refusal(make_either, code):
    """Without time for another attempt none is begun: its failure would say less, and count against a node that is well."""
    with peer(answers(b"-%b not now\r\n" % code)) as other:
        bay = await make_either(other.url).connect()
        for _ in range(2):
            calls = [start(bay, bay.execute("SET", "k", "v", timeout=0.1 + number / 80)) for number in range(8)]
            # one that was sent in time and got no reply has an unknown outcome, and says so
            assert {type(error) for error in await finished(*calls)} <= {Refused, DeadlineExceeded}
            assert bay.stats().wire.nodes[0].breaker == "closed"


async def test_a_command_that_was_never_sent_waits_for_a_listener(make_either, server, prefix):
    with proxy_to(server.address()) as proxy:
        proxy.fault = Refuse()
        bay = make_either(proxy.url + PATIENT)
        call = start(bay, bay.execute("INCR", f"{prefix}n"))
        await until(lambda: bay.stats().wire.retries)
        proxy.heal()
        assert await call == 1


async def test_a_write_is_sent_after_handshakes_that_failed(make_either):
    with peer(answers(OK)) as other:
        well = dict(other.greeting)
        other.greeting[b"HELLO"] = b"-LOADING in memory\r\n"
        bay = make_either(other.url + PATIENT)
        call = start(bay, bay.execute("SET", "k", "v"))
        await until(lambda: bay.stats().wire.retries)
        other.greeting.update(well)
        assert await call == b"OK"
        assert arrived(other, b"SET") == 1


@pytest.mark.parametrize("command", [("GET", "k"), ("SET", "k", "v")], ids=name)
@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_deadline_is_the_end_of_a_read_and_of_a_write(make_either, command, idempotent):
    with peer(lambda command: b"") as other:
        bay = await make_either(other.url + "?read_timeout=300ms&min_idle=1").connect()
        with pytest.raises(DeadlineExceeded):
            await bay.execute(*command, idempotent=idempotent)
        assert len(other.commands) == 1
        assert bay.stats().wire.retries == 0


async def test_a_call_may_have_less_time_than_others(make_either):
    go = threading.Event()

    def script(command):
        if command[1] == b"slow":
            go.wait()
        return VALUE

    with peer(script) as other:
        bay = await make_either(other.url + PATIENT).connect()
        began = time.monotonic()
        calls = [
            lambda: bay.execute("GET", "slow", timeout=0.2),
            lambda: bay.pipeline([("GET", "k"), ("GET", "slow")], timeout="200ms"),
            lambda: bay.execute("SET", "slow", "v" * 100_000, timeout=timedelta(milliseconds=200)),
        ]
        try:
            for call in calls:
                with pytest.raises(DeadlineExceeded):
                    await call()
            took = time.monotonic() - began
        finally:
            go.set()
        assert 0.55 < took < 2.5
        assert bay.stats().wire.nodes[0].breaker == "closed", "who is in a hurry does not speak of the server's health"
        assert await bay.execute("GET", "k") == b"value"


@pytest.mark.parametrize("call", ["execute", "pipeline", "transaction"])
async def test_a_call_with_more_time_than_others_gets_it_and_keeps_nobody_waiting(make_either, call):
    asked, go = asyncio.Event(), ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    held = go.submit(asyncio.run, asyncio.sleep(0.4))  # longer than the read timeout

    def script(command):
        if command[0] == b"GET" and command[1] == b"slow":
            loop.call_soon_threadsafe(asked.set)
            held.result()
        if command[0] == b"EXEC":
            return b"*1\r\n$5\r\nvalue\r\n"
        return OK if command[0] == b"MULTI" else VALUE

    with peer(script) as other, go:
        bay = await make_either(other.url + "?read_timeout=200ms&min_idle=1").connect()
        command = ("GET", "slow")
        work = bay.execute(*command, timeout=9) if call == "execute" else getattr(bay, call)([command], timeout="9s")
        slow = start(bay, work)
        await asked.wait()
        assert await bay.execute("GET", "quick") == b"value"
        assert not held.done()
        assert not slow.done()
        assert await slow == (b"value" if call == "execute" else [b"value"])
        assert bay.stats().wire.dropped == 0


@pytest.mark.parametrize("bad", [0, -1, "soon", "", "-5s", True, float("nan"), float("inf"), b"1s", timedelta(0), [1]])
async def test_a_timeout_that_is_no_time_is_refused(either, bad):
    calls = [
        lambda: either.execute("PING", timeout=bad),
        lambda: either.pipeline([("PING",)], timeout=bad),
        lambda: either.transaction([("PING",)], timeout=bad),
        lambda: either.wrapped.script("return 1")(timeout=bad) if hasattr(either, "wrapped") else either.script("return 1")(timeout=bad),
    ]
    for call in calls:
        with pytest.raises(InvalidDuration):
            await call()
    assert either.stats().wire.in_flight == 0


@pytest.mark.parametrize("large", [False, True])
async def test_a_timeout_bounds_also_the_dial(make_either, large):
    with peer(answers(OK)) as other:
        other.greeting.update(dict.fromkeys(other.greeting, b""))
        bay = make_either(other.url + "?dial_timeout=5s")
        began = time.monotonic()
        with pytest.raises(Exception, match="127.0.0.1") as caught:
            await bay.execute("SET", "k", "v" * (100_000 if large else 1), timeout="300ms")
        assert isinstance(caught.value, Unavailable)
        assert time.monotonic() - began < 1.5
