"""What is in flight is bounded: more callers wait in line, in the order in which they came, and past their deadline nothing was sent."""

import asyncio
import os
import random
import re
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from forebay import AsyncForebay, DeadlineExceeded, EmbeddedServer, Forebay, Overloaded
from tests.calling import arrived, finished, start, until
from tests.peer import peer


def echo(command):
    if command == [b"PING"]:  # asked at the end
        return b"+PONG\r\n"
    return b"$%d\r\n%b\r\n" % (len(command[1]), command[1])


class Gate:
    """A script that answers nothing until it is let go."""

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, command):
        self.go.wait()
        return echo(command)


@contextmanager
def held_peer():
    gate = Gate()
    with peer(gate) as other:
        try:
            yield other, gate.go
        finally:
            gate.go.set()


def per_read(other):
    """The commands of each read after the handshake. All of them were in flight at once, for each read is answered as a whole."""
    commands = iter(list(other.commands))
    return [[next(commands) for _ in range(count)] for count in other.reads[1:]]


async def in_line(bay, count):
    """Wait until so many callers wait for room on the connection."""
    link = bay.port.route._node._links[asyncio.get_running_loop()]
    await until(lambda: len(link._waiters) == count)


async def test_asyncio_never_more_commands_in_flight_than_the_bound():
    most = 0
    with peer(echo) as other:
        async with AsyncForebay(other.url + "?max_in_flight=4&read_timeout=20s") as bay:

            async def work(caller):
                nonlocal most
                for number in range(20):
                    token = f"{caller}.{number}"
                    assert await bay.execute("ECHO", token) == token.encode()
                    most = max(most, bay.stats().wire.in_flight)

            await asyncio.gather(*(work(caller) for caller in range(64)))
            assert bay.stats().wire.in_flight == 0
        assert arrived(other, b"ECHO") == 64 * 20
        assert max(map(len, per_read(other))) <= 4
        assert most <= 4


async def test_asyncio_never_more_bytes_in_flight_than_the_bound_and_one_command():
    with peer(echo) as other:
        async with AsyncForebay(other.url + "?max_in_flight_bytes=10000&read_timeout=20s") as bay:
            await asyncio.gather(*(bay.execute("ECHO", b"%04d" % number + b"x" * 2000) for number in range(200)))
        assert arrived(other, b"ECHO") == 200
        assert max(sum(len(command[1]) for command in read) for read in per_read(other)) <= 10_000 + 2100


async def test_asyncio_who_comes_first_is_served_first_and_nobody_overtakes():
    with peer(echo) as other:
        async with AsyncForebay(other.url + "?max_in_flight=4&read_timeout=20s") as bay:

            async def work(caller):
                for _ in range(20):
                    await bay.execute("ECHO", str(caller))

            await asyncio.gather(*(work(caller) for caller in range(32)))
    served = [0] * 32
    for command in other.commands:
        served[int(command[1])] += 1
        # all of them are always in line or in flight: who is served again has let every other one go first
        assert max(served) - min(served) <= 2


async def test_asyncio_the_line_keeps_its_order():
    with held_peer() as (other, go):
        async with AsyncForebay(other.url + "?max_in_flight=1&read_timeout=20s") as bay:
            calls = [asyncio.ensure_future(bay.execute("ECHO", str(number))) for number in range(20)]
            await in_line(bay, 19)
            assert bay.stats().wire.in_flight == 1
            go.set()
            assert await asyncio.gather(*calls) == [b"%d" % number for number in range(20)]
            assert [int(command[1]) for command in other.commands] == list(range(20))


@pytest.mark.parametrize(
    ("bound", "remedy"), [("max_in_flight=4", "REDIS_MAX_IN_FLIGHT"), ("max_in_flight_bytes=100", "REDIS_MAX_IN_FLIGHT_BYTES")]
)
async def test_asyncio_past_the_deadline_nothing_was_sent_and_the_error_says_what_to_raise(bound, remedy):
    with held_peer() as (other, go):
        async with AsyncForebay(f"{other.url}?{bound}&read_timeout=20s") as bay:
            first = [asyncio.ensure_future(bay.execute("ECHO", f"first{number}")) for number in range(4)]
            await until(lambda: bay.stats().wire.in_flight == 4)
            late = [asyncio.ensure_future(bay.execute("ECHO", "late", timeout="200ms")) for _ in range(20)]
            for error in await finished(*late):
                assert isinstance(error, Overloaded)
                assert re.search(rf"was not sent; .*{remedy}\b", str(error))
            assert bay.stats().wire.timeouts == 20
            go.set()
            assert await asyncio.gather(*first) == [b"first%d" % number for number in range(4)]
            assert await bay.execute("ECHO", "next") == b"next"
            assert bay.stats().wire.nodes[0].breaker == "closed"
        assert arrived(other, b"ECHO") == 5


async def test_asyncio_a_waiter_that_leaves_gives_its_turn_on():
    with held_peer() as (other, go):
        async with AsyncForebay(other.url + "?max_in_flight=1&read_timeout=20s") as bay:
            first = asyncio.ensure_future(bay.execute("ECHO", "first"))
            await until(lambda: bay.stats().wire.in_flight == 1)
            second, third = (asyncio.ensure_future(bay.execute("ECHO", name)) for name in ("second", "third"))
            await in_line(bay, 2)
            second.cancel()  # before it has the turn
            await in_line(bay, 1)
            go.set()
            assert [await first, await third] == [b"first", b"third"]
        assert arrived(other, b"ECHO") == 2


async def test_asyncio_a_waiter_that_leaves_with_the_turn_in_its_hand_gives_it_on():
    with held_peer() as (other, go):
        async with AsyncForebay(other.url + "?max_in_flight=1&read_timeout=20s") as bay:

            async def first():
                await bay.execute("ECHO", "first")
                second.cancel()  # the reply gave it the turn, and it has not run since

            opening = asyncio.ensure_future(first())
            await until(lambda: bay.stats().wire.in_flight == 1)
            second, third = (asyncio.ensure_future(bay.execute("ECHO", name)) for name in ("second", "third"))
            await in_line(bay, 2)
            go.set()
            await opening
            assert await third == b"third"
            assert second.cancelled()
        assert arrived(other, b"ECHO") == 2


async def test_asyncio_callers_that_leave_at_any_moment_take_no_room_with_them():
    chance = random.Random(1)
    with peer(echo) as other:
        async with AsyncForebay(other.url + "?max_in_flight=2&read_timeout=20s") as bay:

            async def work(caller):
                for number in range(40):
                    call = asyncio.ensure_future(bay.execute("ECHO", f"{caller}.{number}"))
                    for _ in range(chance.randrange(6)):
                        await asyncio.sleep(0)
                    if chance.random() < 0.5:
                        call.cancel()
                    [result] = await finished(call)
                    assert isinstance(result, asyncio.CancelledError) or result == f"{caller}.{number}".encode()

            await asyncio.gather(*(work(caller) for caller in range(32)))
            assert await bay.execute("ECHO", "next") == b"next"
            assert bay.stats().wire.in_flight == 0
            assert bay.stats().wire.dropped == 0
        assert max(map(len, per_read(other))) <= 2


@contextmanager
def stopped(process):
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


async def test_after_a_pause_of_the_server_everything_goes_on(make_either, prefix):
    with EmbeddedServer(port=0) as server:
        bay = await make_either(server.url + "?max_in_flight=8&pool_size=4&read_timeout=30s", prefix=prefix).connect()
        process = int(re.search(rb"process_id:(\d+)", await bay.execute("INFO", "server"))[1])
        bound = 4 if hasattr(bay, "wrapped") else 8
        with stopped(process):
            calls = [start(bay, bay.execute("INCR", f"{prefix}n")) for _ in range(32)]
            await until(lambda: bay.stats().wire.in_flight == bound)
            late = [start(bay, bay.execute("INCR", f"{prefix}late", timeout="300ms")) for _ in range(8)]
            assert {type(error) for error in await finished(*late)} == {Overloaded}
            assert bay.stats().wire.in_flight == bound
        assert sorted(await asyncio.gather(*calls)) == list(range(1, 33))
        assert await bay.execute("EXISTS", f"{prefix}late") == 0
        assert bay.stats().wire.dropped == 0
        await bay.close()


@pytest.mark.parametrize("together", [True, False], ids=["in a pipeline", "one by one"])
async def test_reading_goes_on_while_writing_is_blocked(make_either, together):
    """The peer reads nothing while it cannot get rid of its replies: who only wrote would wait for ever."""
    reply = b"$50000\r\n" + b"r" * 50_000 + b"\r\n"
    with peer(lambda command: reply) as other:
        bay = await make_either(other.url + "?read_timeout=20s&write_timeout=2s").connect()
        commands = [("SET", str(number), b"w" * 50_000) for number in range(300)]
        if together:
            replies = await bay.pipeline(commands)
        else:
            replies = [await call for call in [start(bay, bay.execute(*command)) for command in commands[:60]]]
        assert {len(one) for one in replies} == {50_000}
        assert bay.stats().wire.dropped == 0


def test_threads_never_have_more_sockets_than_the_pool():
    with peer(echo) as other, Forebay(other.url + "?pool_size=3&min_idle=0&read_timeout=20s") as bay:
        most, wrong = [], []

        def work(caller):
            for number in range(10):
                token = f"{caller}.{number}".encode() + b"x" * (20_000 if number % 2 else 10)
                if bay.execute("ECHO", token) != token:
                    wrong.append(token)
                most.append(bay.stats().wire.connections)

        threads = [threading.Thread(target=work, args=(caller,)) for caller in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert max(most) <= 3
        assert len(other.connections) <= 3
        assert arrived(other, b"ECHO") == 240


def waiting(bay):
    node = bay.port.route._node
    return node._combiners[0].waiting + node._waiting


@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "large"])
def test_threads_are_served_in_the_order_in_which_they_came(size):
    with held_peer() as (other, go), Forebay(other.url + "?pool_size=1&min_idle=0&read_timeout=20s") as bay:
        threads = []
        for number in range(12):
            token = b"%d " % number + b"x" * size
            threads.append(threading.Thread(target=bay.execute, args=("ECHO", token)))
            threads[-1].start()
            while not (other.commands if number == 0 else waiting(bay) == number):
                threading.Event().wait(0.001)
        go.set()
        for thread in threads:
            thread.join()
        assert [int(command[1].split()[0]) for command in other.commands] == list(range(12))


@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "large"])
@pytest.mark.parametrize(("query", "timeout"), [("&read_timeout=300ms", None), ("&read_timeout=20s", "300ms")])
def test_threads_past_the_deadline_nothing_was_sent_and_the_error_says_what_to_raise(size, query, timeout):
    with held_peer() as (other, go), Forebay(other.url + "?pool_size=1&min_idle=0" + query) as bay:
        first = threading.Thread(target=bay.execute, args=("ECHO", "first"), kwargs={"timeout": 20})
        first.start()
        while not other.commands:
            threading.Event().wait(0.001)
        began = time.monotonic()
        with pytest.raises(Overloaded, match=r"was not sent; raise REDIS_POOL_SIZE"):
            bay.execute("ECHO", b"x" * size, timeout=timeout)
        assert 0.25 < time.monotonic() - began < 1.5
        go.set()
        first.join()
        assert bay.execute("ECHO", "next") == b"next"
        assert [command[1] for command in other.commands] == [b"first", b"next"]


@pytest.mark.parametrize("timeout", [None, "1s"])
def test_threads_the_deadline_holds_for_waiting_and_the_reply_together(timeout):
    query = "?pool_size=1&min_idle=1&dial_timeout=1s&read_timeout=" + ("1s" if timeout is None else "20s")
    with peer(lambda command: b"") as other, Forebay(other.url + query) as bay:

        def take_the_socket():
            with pytest.raises(DeadlineExceeded):
                bay.execute("INCR", "first", timeout="1s")

        first = threading.Thread(target=take_the_socket)
        first.start()
        while not other.commands:
            threading.Event().wait(0.001)
        threading.Event().wait(0.3)  # it finds the socket taken for most of its time
        began = time.monotonic()
        with pytest.raises((DeadlineExceeded, Overloaded)):
            bay.execute("INCR", "second", timeout=timeout)
        first.join()
        assert time.monotonic() - began < 1.4
