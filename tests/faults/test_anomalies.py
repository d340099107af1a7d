"""Whatever is odd on a connection kills that connection and fails what was in flight; nobody ever reads another's reply."""

import asyncio
import threading

import pytest

from forebay import AsyncForebay, CircuitOpen, ConnectFailed, ConnectionLost, DeadlineExceeded, Forebay
from tests.patience import served_again
from tests.peer import Close, peer


def echo(command):
    """Answer every command with its second word, so that each reply names its command. A probe gets its PONG."""
    if command == [b"PING"]:
        return b"+PONG\r\n"
    return b"$%d\r\n%b\r\n" % (len(command[1]), command[1])


def fast(url):
    return url + "?read_timeout=300ms&dial_timeout=1s&write_timeout=300ms"


ANOMALIES = {
    "cut before the reply": Close(),
    "cut in the reply": Close(b"$5\r\nab"),
    "cut in the number": Close(b"$1"),
    "bad type byte": b"?3\r\nabc\r\n",
    "a page of HTML": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zero bytes": b"\x00\x00\x00\x00\r\n",
}
SURPLUS = {
    "two replies for one": b"$3\r\nown\r\n$5\r\nalien\r\n",
    "one and a half replies": b"$3\r\nown\r\n$5\r\nali",
    "a bulk that is longer than it says": b"$3\r\nown\r\nxx\r\n",
}


@pytest.mark.parametrize("anomaly", ANOMALIES.values(), ids=ANOMALIES)
async def test_asyncio_an_anomaly_fails_what_is_in_flight_and_the_next_call_reconnects(anomaly):
    def script(command):
        if command[1] == b"odd":
            if isinstance(anomaly, Close):
                raise anomaly
            return anomaly
        return echo(command)

    with peer(script) as other:
        async with AsyncForebay(fast(other.url)) as bay:
            before = [bay.execute("INCR", f"before{number}") for number in range(3)]
            odd = bay.execute("INCR", "odd")
            after = [bay.execute("INCR", f"after{number}") for number in range(3)]
            results = await asyncio.gather(*before, odd, *after, return_exceptions=True)
            assert results[:3] == [b"before0", b"before1", b"before2"]
            assert [type(result) for result in results[3:]] == [ConnectionLost] * 4
            assert await bay.execute("GET", "next") == b"next"
            assert bay.stats().wire.dropped == 1


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
async def test_asyncio_surplus_bytes_after_the_last_reply_kill_the_connection(surplus):
    dropped = asyncio.Event()
    with peer(lambda command: surplus if command[1] == b"odd" else echo(command)) as other:
        async with AsyncForebay(fast(other.url), on_event=lambda event: dropped.set()) as bay:
            first = await asyncio.gather(bay.execute("INCR", "odd"), return_exceptions=True)
            assert first == [b"own"]
            if surplus == SURPLUS["one and a half replies"]:
                # the half waits for its other half, which the next caller's reply must not become
                with pytest.raises(ConnectionLost):
                    await bay.execute("INCR", "a reply of more than three bytes")
            await dropped.wait()
            assert await bay.execute("GET", "next") == b"next"


@pytest.mark.parametrize("anomaly", (ANOMALIES | SURPLUS).values(), ids=ANOMALIES | SURPLUS)
def test_threads_an_anomaly_fails_the_caller_and_the_next_call_has_a_new_socket(anomaly):
    def script(command):
        if command[1] == b"odd":
            if isinstance(anomaly, Close):
                raise anomaly
            return anomaly
        return echo(command)

    with peer(script) as other, Forebay(fast(other.url) + "&min_idle=1") as bay:
        assert bay.execute("GET", "before") == b"before"
        with pytest.raises(ConnectionLost):
            bay.execute("INCR", "odd")
        assert bay.execute("GET", "next") == b"next"
        assert bay.stats().wire.dropped == 1
        assert len(other.connections) == 2


async def test_asyncio_a_reply_nobody_asked_for_on_an_idle_connection_kills_it():
    dropped = asyncio.Event()
    with peer(echo) as other:
        async with AsyncForebay(fast(other.url), on_event=lambda event: dropped.set()) as bay:
            assert await bay.execute("GET", "a") == b"a"
            other.send(b"$5\r\nalien\r\n")
            await dropped.wait()
            assert await bay.execute("GET", "b") == b"b"
            assert len(other.connections) == 2


def test_threads_a_reply_nobody_asked_for_on_an_idle_connection_is_never_read():
    with peer(echo) as other, Forebay(fast(other.url) + "&min_idle=1") as bay:
        assert bay.execute("GET", "a") == b"a"
        connection = bay.port.route._node._idle[0]
        other.send(b"$5\r\nalien\r\n")
        while connection.healthy():
            threading.Event().wait(0.001)
        connection.used_at -= 1  # it has been idle for a while
        assert bay.execute("GET", "b") == b"b"
        assert bay.stats().wire.dropped == 1


def test_threads_a_socket_that_was_closed_while_idle_is_replaced_without_an_error():
    with peer(echo) as other, Forebay(fast(other.url) + "&min_idle=1") as bay:
        connection = bay.port.route._node._idle[0]
        other.connections[0].shutdown(2)
        while connection.healthy():
            threading.Event().wait(0.001)
        connection.used_at -= 1
        assert bay.execute("GET", "b") == b"b"


async def test_asyncio_a_silent_server_costs_each_caller_its_deadline_and_then_the_connection():
    silent = True

    def script(command):
        return b"" if silent else echo(command)

    with peer(script) as other:
        async with AsyncForebay(fast(other.url)) as bay:
            began = asyncio.get_running_loop().time()
            results = await asyncio.gather(*(bay.execute("GET", str(number)) for number in range(64)), return_exceptions=True)
            took = asyncio.get_running_loop().time() - began
            assert [type(result) for result in results] == [DeadlineExceeded] * 64
            assert 0.29 < took < 2
            assert "127.0.0.1" in str(results[0])
            assert isinstance(results[0], TimeoutError)
            for _ in range(3):  # the breaker is open: nobody else waits for a server that does not answer
                with pytest.raises(CircuitOpen, match="failed 64 times in a row"):
                    await bay.execute("GET", "next")
            assert bay.stats().wire.nodes[0].breaker == "open"
            silent = False
            assert await served_again(lambda: bay.execute("GET", "next")) == b"next"
            assert bay.stats().wire.nodes[0].breaker == "closed"


async def test_asyncio_a_connection_that_owes_replies_and_is_silent_is_given_up():
    with peer(lambda command: b"" if command[1] == b"silent" else echo(command)) as other:
        events = []
        async with AsyncForebay(fast(other.url), on_event=events.append) as bay:
            with pytest.raises(DeadlineExceeded):
                await bay.execute("INCR", "silent")
            with pytest.raises(ConnectionLost, match="nothing was heard for 0.6 s") as caught:
                while True:  # what comes now waits behind the silence, and would wait for ever
                    await asyncio.gather(*(bay.execute("INCR", "silent") for _ in range(2)), return_exceptions=False)
            assert caught.value.__cause__ is not None


async def test_asyncio_late_replies_are_dropped_and_never_given_to_another():
    held, release = [], threading.Event()

    def script(command):
        if command[1] == b"slow":
            release.wait()
        return echo(command)

    with peer(script) as other:
        async with AsyncForebay(fast(other.url)) as bay:
            slow = asyncio.ensure_future(bay.execute("GET", "slow"))
            with pytest.raises(DeadlineExceeded):
                await slow
            quick = asyncio.ensure_future(bay.execute("GET", "quick"))
            await asyncio.sleep(0)
            release.set()
            assert await quick == b"quick"
            assert bay.stats().wire.dialled == 1
            assert not held


def test_threads_a_silent_server_costs_the_deadline_and_the_socket():
    with peer(lambda command: b"") as other, Forebay(fast(other.url) + "&min_idle=1") as bay:
        with pytest.raises(DeadlineExceeded, match="did not answer in time"):
            bay.execute("GET", "k")
        assert bay.stats().wire.connections == 0


def test_threads_a_reply_that_trickles_is_bounded_too():
    stop = threading.Event()

    with peer(lambda command: b"$1000000\r\n") as other:

        def trickle():
            while not stop.wait(0.05):
                other.send(b"x")

        thread = threading.Thread(target=trickle)
        try:
            with Forebay(fast(other.url) + "&min_idle=1") as bay:
                thread.start()
                with pytest.raises(DeadlineExceeded):
                    bay.execute("GET", "k")
        finally:
            stop.set()
            thread.join()


async def test_asyncio_a_server_that_takes_no_bytes_is_given_up_after_the_write_timeout():
    stuck = threading.Event()

    def script(command):
        stuck.wait()
        return b"+OK\r\n"

    with peer(script) as other:
        try:
            async with AsyncForebay(other.url + "?read_timeout=5s&write_timeout=300ms") as bay:
                with pytest.raises(ConnectionLost, match=r"took no bytes for 0\.3 s"):
                    await bay.pipeline([("SET", "k", b"x" * 8_000_000)] * 8)
        finally:
            stuck.set()


@pytest.mark.parametrize(
    ("replies", "complaint"),
    [
        ({b"HELLO": b"-ERR unknown command 'HELLO'\r\n"}, "does not speak RESP3.*Redis 7.0 or later"),
        ({b"HELLO": b"-NOPROTO unsupported\r\n"}, "does not speak RESP3"),
        ({b"HELLO": b"-NOAUTH HELLO must be called with the client already authenticated\r\n"}, "REDIS_PASSWORD"),
        ({b"HELLO": b"-WRONGPASS invalid\r\n"}, "wrong password for user 'default'"),
        ({b"SELECT": b"-ERR DB index is out of range\r\n"}, "no database 0"),
        ({b"PING": b"-LOADING in memory\r\n"}, "does not serve: LOADING"),
        ({b"HELLO": b"?\r\n"}, "cannot connect"),
        ({b"PING": b""}, r"cannot connect.*(0\.4 s|in time)"),
    ],
)
async def test_a_handshake_that_fails_is_explained(make_either, replies, complaint):
    with peer(echo) as other:
        other.greeting.update(replies)
        bay = make_either(other.url + "?dial_timeout=400ms&read_timeout=300ms")
        with pytest.raises(ConnectFailed, match=complaint) as caught:
            await bay.connect()
        assert f"127.0.0.1:{other.port}" in str(caught.value)


async def test_a_refused_name_is_reported_and_harmless(make_either):
    with peer(echo) as other:
        other.greeting[b"CLIENT"] = b"-NOPERM this user has no permissions to run the 'client|setname' command\r\n"
        bay = make_either(other.url)
        assert await bay.execute("GET", "k") == b"k"
        assert bay.stats().reported == {"NameRefused": 1}
