"""The multiplexer and the pool on a real server: order, cancellation, restarts, loops, threads."""

import asyncio
import os
import random
import re
import signal
import threading

import pytest

from forebay import (
    AsyncForebay,
    Closed,
    ConnectionLost,
    EmbeddedServer,
    Forebay,
    InvalidCommand,
    Overloaded,
    ServerError,
    Unavailable,
)
from tests.patience import served_again
from tests.peer import peer


async def test_commands_of_one_tick_leave_in_one_write():
    with peer(lambda command: b"$%d\r\n%b\r\n" % (len(command[1]), command[1])) as other:
        async with AsyncForebay(other.url) as bay:
            greeting = list(other.reads)
            results = await asyncio.gather(*(bay.execute("GET", str(number)) for number in range(100)))
            assert results == [b"%d" % number for number in range(100)]
            assert greeting == [5], "the handshake is one write"
            assert other.reads[1:] == [100]
            await bay.port.execute_many([("GET", "a"), ("GET", "b")])
            assert other.reads[2:] == [2]


async def test_ten_thousand_random_cancellations_and_no_reply_reaches_the_wrong_caller(bay):
    cache = bay.cache("user", ttl=60)
    await cache.set_many({number: f"value of {number}" for number in range(1000)})
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    cancelled = answered = 0

    async def read(number):
        nonlocal answered
        if chance.random() < 0.5:
            assert await cache.get(number) == f"value of {number}", seed
        else:
            some = [number, (number * 7) % 1000]
            assert await cache.get_many(some) == {one: f"value of {one}" for one in some}, seed
        answered += 1

    async def caller():
        nonlocal cancelled
        while cancelled < 10_000:
            task = asyncio.ensure_future(read(chance.randrange(1000)))
            for _ in range(1 + chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.8:
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cancelled += 1

    await asyncio.gather(*(caller() for _ in range(64)))
    assert cancelled >= 10_000
    assert answered > 1000
    assert bay.stats().wire.dropped == 0
    await bay.ping()
    assert bay.stats().wire.in_flight == 0


def process_of(info):
    """The process id in the reply to INFO server."""
    return int(re.search(rb"process_id:(\d+)", info)[1])


async def test_asyncio_a_killed_server_fails_what_was_in_flight_and_the_next_call_reconnects(prefix):
    first = EmbeddedServer(port=0)
    port = first.address().port
    events = []
    async with AsyncForebay(first.url, prefix=prefix, on_event=events.append) as bay:
        server_process = process_of(await bay.execute("INFO", "server"))
        waiting = [asyncio.ensure_future(bay.execute("BLPOP", f"{prefix}nothing", 0)) for _ in range(3)]
        await bay_in_flight(bay, 3)
        os.kill(server_process, signal.SIGKILL)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, ConnectionLost)
            assert f"127.0.0.1:{port}" in str(result)
        with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}"):
            await bay.execute("PING")
        first.stop()
        with EmbeddedServer(port=port):
            assert await served_again(lambda: bay.execute("PING")) == b"PONG"
        assert {type(event).__name__ for event in events} == {"ConnectionDropped"}


async def bay_in_flight(bay, count):
    while bay.stats().wire.in_flight < count:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_threads_a_killed_server_fails_what_was_in_flight_and_the_next_call_reconnects(prefix):
    first = EmbeddedServer(port=0)
    port = first.address().port
    with Forebay(first.url, prefix=prefix) as bay:
        results = []
        server_process = process_of(bay.execute("INFO", "server"))

        def work():
            try:
                bay.execute("BLPOP", f"{prefix}nothing", 0)
            except Exception as error:  # noqa: BLE001 - checked below
                results.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        while bay.stats().wire.in_flight < 3:
            threading.Event().wait(0.001)
        os.kill(server_process, signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert [type(error) for error in results] == [ConnectionLost] * 3
        first.stop()
        with EmbeddedServer(port=port):
            for connection in bay.port.route._node._idle:
                connection.used_at -= 1  # idle since before the crash
            assert bay.execute("PING") == b"PONG"
            assert bay.execute("PING") == b"PONG"


async def test_errors_of_the_server_are_the_callers_own(either, prefix):
    with pytest.raises(ServerError) as caught:
        await either.execute("NOSUCHCOMMAND", "x")
    assert caught.value.code == "ERR"
    with pytest.raises(InvalidCommand, match="argument 1 of GET is NoneType"):
        await either.execute("GET", None)
    with pytest.raises(InvalidCommand, match="needs at least its name"):
        await either.execute()
    assert await either.execute("PING") == b"PONG"
    assert either.stats().wire.dropped == 0


async def test_batches_hold_refusals_as_values(either, prefix):
    port = getattr(either, "wrapped", either).port
    commands = [("SET", f"{prefix}k", 1), ("INCR", f"{prefix}k"), ("LPUSH", f"{prefix}k", 1), ("GET", f"{prefix}k")]
    if hasattr(either, "wrapped"):
        from forebay.port.port import complete

        replies = complete(port.execute_many(commands))
    else:
        replies = await port.execute_many(commands)
    assert replies[:2] == [b"OK", 2]
    assert isinstance(replies[2], ServerError)
    assert replies[3] == b"2"


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 1 << 20, 20 << 20])
async def test_values_of_any_size(either, prefix, size):
    value = b"\x00\xff" * (size // 2)
    await either.execute("SET", f"{prefix}k", value, "PX", 60_000)
    assert await either.execute("GET", f"{prefix}k") == value
    await either.execute("DEL", f"{prefix}k")


async def test_many_large_writes_at_once_wait_for_the_transport_and_all_arrive(bay, prefix):
    big = b"x" * 2_000_000
    await asyncio.gather(*(bay.execute("SET", f"{prefix}{number}", big, "PX", 60_000) for number in range(32)))
    assert await bay.execute("EXISTS", *(f"{prefix}{number}" for number in range(32))) == 32
    await bay.execute("UNLINK", *(f"{prefix}{number}" for number in range(32)))


async def test_after_close_calls_fail_and_closing_again_is_fine(make_either, url):
    bay = await make_either(url).connect()
    await bay.close()
    await bay.close()
    for call in (bay.ping, lambda: bay.execute("PING"), lambda: bay.cache("user", ttl=1).get_or_set("k", lambda: 1)):
        with pytest.raises(Closed, match="closed; open a new one"):
            await call()


async def test_closing_lets_what_is_in_flight_finish(url, prefix):
    bay = await AsyncForebay(url, prefix=prefix).connect()
    reads = [asyncio.ensure_future(bay.execute("SET", f"{prefix}{number}", number, "PX", 60_000)) for number in range(100)]
    await asyncio.sleep(0)
    await bay.close()
    assert await asyncio.gather(*reads) == [b"OK"] * 100


async def test_callers_that_find_no_connection_share_one_dial(url):
    bay = AsyncForebay(url)
    assert await asyncio.gather(*(bay.execute("PING") for _ in range(50))) == [b"PONG"] * 50
    assert bay.stats().wire.dialled == 1
    await bay.close()


async def test_cancelling_the_first_caller_does_not_disturb_the_dial_of_the_others(url):
    bay = AsyncForebay(url)
    calls = [asyncio.ensure_future(bay.execute("PING")) for _ in range(5)]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert (await asyncio.gather(*calls, return_exceptions=True))[1:] == [b"PONG"] * 4
    assert bay.stats().wire.dialled == 1
    await bay.close()


def test_each_event_loop_has_a_connection_of_its_own(url):
    bay = AsyncForebay(url)

    async def use():
        assert await bay.execute("PING") == b"PONG"
        await bay.port.route._node._links[asyncio.get_running_loop()].close(1)

    asyncio.run(use())
    asyncio.run(use())
    assert bay.stats().wire.dialled == 2


def test_each_threads_reply_is_its_own(url, prefix):
    with Forebay(url + "?pool_size=8&min_idle=2", prefix=prefix) as bay:
        cache = bay.cache("user", ttl=60)
        cache.set_many({number: f"value of {number}" for number in range(200)})
        wrong, barrier = [], threading.Barrier(32)

        def work(seed):
            chance = random.Random(seed)
            barrier.wait()
            for _ in range(100):
                number = chance.randrange(200)
                if cache.get(number) != f"value of {number}":
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        stats = bay.stats().wire
        assert stats.connections <= 8
        assert (stats.in_flight, stats.idle, stats.dropped) == (0, stats.connections, 0)


def test_the_pool_keeps_its_minimum_and_its_size(url):
    with Forebay(url + "?pool_size=3&min_idle=2") as bay:
        assert bay.stats().wire.connections == 2
        taken = [bay.port.route._node._take(0.2) for _ in range(3)]
        assert bay.stats().wire.in_flight == 3
        for connection in taken:
            bay.port.route._node._give_back(connection)
        assert bay.stats().wire.idle == 3
        for connection in bay.port.route._node._idle:
            connection.used_at -= 1000  # as if nobody had come for a quarter of an hour
        bay.ping()
        assert bay.stats().wire.idle == 2


def test_who_finds_no_socket_waits_for_one_up_to_the_deadline(url):
    with Forebay(url + "?pool_size=1&min_idle=0&read_timeout=200ms") as bay:
        connection = bay.port.route._node._take(0.2)
        with pytest.raises(Overloaded, match=r"all 1 connections.*REDIS_POOL_SIZE"):
            bay.ping()
        got, waiting = [], threading.Thread(target=lambda: got.append(bay.execute("PING")))
        waiting.start()
        while not bay.port.route._node._waiting:
            threading.Event().wait(0.001)
        bay.port.route._node._give_back(connection)
        waiting.join()
        assert got == [b"PONG"]


def test_threads_that_wait_hear_of_the_closing(url):
    bay = Forebay(url + "?pool_size=1&min_idle=0").connect()
    connection = bay.port.route._node._take(0.2)
    errors = []

    def work():
        try:
            bay.ping()
        except Closed as error:
            errors.append(error)

    waiting = threading.Thread(target=work)
    waiting.start()
    while not bay.port.route._node._waiting:
        threading.Event().wait(0.001)
    bay.close()
    waiting.join()
    assert len(errors) == 1
    bay.port.route._node._give_back(connection)
    assert bay.stats().wire.connections == 0


def test_a_thread_interrupted_while_it_waits_gives_its_socket_up(url, prefix):
    with Forebay(url + "?pool_size=1&min_idle=0", prefix=prefix) as bay:

        def interrupt(*_):
            raise KeyboardInterrupt

        def when_it_waits():
            while b"cmd=blpop" not in watcher.execute("CLIENT", "LIST"):
                threading.Event().wait(0.001)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, interrupt)
        with Forebay(url) as watcher:
            helper = threading.Thread(target=when_it_waits)
            helper.start()
            try:
                with pytest.raises(KeyboardInterrupt):
                    bay.execute("BLPOP", f"{prefix}nothing", 0)
            finally:
                helper.join()
                signal.signal(signal.SIGUSR1, before)
        assert bay.stats().wire.connections == 0
        assert bay.execute("PING") == b"PONG"
