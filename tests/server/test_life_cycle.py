"""Bays come and go with loops, threads, workers and interpreters: nothing is left over, and nothing is said that nobody should hear."""

import asyncio
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from forebay import AsyncForebay, Closed, ConnectionLost, EmbeddedServer, Forebay, Unavailable
from tests.calling import answers, finished, start, until
from tests.peer import Peer, peer

TWO_LOOPS = """
import asyncio, gc, sys, weakref
from forebay import AsyncForebay
bay = AsyncForebay(sys.argv[1])
loops = []
async def use():
    loops.append(weakref.ref(asyncio.get_running_loop()))
    assert await asyncio.gather(*(bay.execute("ECHO", str(n)) for n in range(64))) == [str(n).encode() for n in range(64)]
    await bay.execute("SET", sys.argv[2] + "k", "v" * 100_000, "PX", 1000)  # takes a lane
    assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()
for _ in range(4):
    asyncio.run(use())
gc.collect()
print(bay.stats().wire.connections, bay.stats().reported, sum(loop() is not None for loop in loops))
"""

ASGIREF = """
import sys
from asgiref.sync import async_to_sync
from forebay import AsyncForebay
bay = AsyncForebay(sys.argv[1], prefix=sys.argv[2])
cache = bay.cache("user", ttl=60)
for n in range(5):
    async_to_sync(cache.set)(n, f"value {n}")
    assert async_to_sync(cache.get)(n) == f"value {n}"
print(bay.stats().wire.connections, bay.stats().reported, 0)
"""

NEVER_CLOSED_ASYNC = """
import asyncio, sys
from forebay import AsyncForebay
bay = AsyncForebay(sys.argv[1])
async def main():
    await bay.connect()
    await bay.execute("SET", sys.argv[2] + "k", "v" * 100_000, "PX", 1000)
    news = await bay.subscribe("c").__aenter__()
    print(await news.get(0.01), bay.stats().reported, bay.stats().wire.connections)
asyncio.run(main())
"""

NEVER_CLOSED_THREADS = """
import sys, threading
from forebay import Forebay
bay = Forebay(sys.argv[1]).connect()
threads = [threading.Thread(target=bay.execute, args=("PING",)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
news = bay.subscribe("c").__enter__()
print(news.get(0.01), bay.stats().reported, bay.stats().wire.connections)
"""

EMBEDDED = """
import asyncio
from forebay import AsyncForebay, Forebay
bay = AsyncForebay("embedded://")
async def main():
    assert await bay.execute("PING") == b"PONG"
asyncio.run(main())
other = Forebay("embedded://").connect()
print(other.execute("PING"), {}, 0)
"""

PROGRAMS = {
    "asyncio.run again and again": (TWO_LOOPS, r"0 \{\} [01]"),
    "async_to_sync": (ASGIREF, r"0 \{\} 0"),
    "never closed, asyncio": (NEVER_CLOSED_ASYNC, r"None \{\} \d"),
    "never closed, threads": (NEVER_CLOSED_THREADS, r"None \{\} \d"),
    "embedded": (EMBEDDED, r"b'PONG' \{\} 0"),
}


@pytest.mark.parametrize(("program", "says"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_never_closes_its_bay_ends_in_silence(program, says, url, prefix):
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", program, url, prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert re.fullmatch(says, done.stdout.strip()), done.stdout
    assert done.returncode == 0


SHARED = []


@pytest.mark.parametrize("number", range(3))
async def test_loops_of_test_functions_may_share_a_bay(number, url, prefix):
    if not SHARED:
        SHARED.append(AsyncForebay(url))
    [bay] = SHARED
    assert await bay.execute("ECHO", str(number)) == str(number).encode()
    await bay.execute("SET", f"{prefix}k", "v" * 100_000, "PX", 1000)
    assert bay.stats().wire.connections == 2, "those of earlier loops are gone"
    assert bay.stats().reported == {}


async def test_closing_lets_64_calls_finish(make_either, url, prefix):
    bay = await make_either(url + "?read_timeout=20s").connect()
    process = int(re.search(rb"process_id:(\d+)", await bay.execute("INFO", "server"))[1])
    os.kill(process, signal.SIGSTOP)  # so that all are in flight when the bay is closed
    try:
        if hasattr(bay, "wrapped"):
            work = [bay.execute("SET", f"{prefix}{number}", "v" * 20_000, "PX", 60_000) for number in range(10)]  # a socket each
        else:
            work = [bay.execute("INCR", f"{prefix}n") for _ in range(64)]
        calls = [start(bay, one) for one in work]
        await until(lambda: bay.stats().wire.in_flight == len(calls))
        closing = start(bay, bay.close())
        await asyncio.wait([closing], timeout=0.05)
        assert not closing.done()
        late = start(bay, bay.execute("PING"))
        assert isinstance((await finished(late))[0], Closed)
    finally:
        os.kill(process, signal.SIGCONT)
    await closing
    assert await asyncio.gather(*calls) == ([b"OK"] * 10 if hasattr(bay, "wrapped") else list(range(1, 65)))
    for call in (bay.ping, lambda: bay.pipeline([("PING",)]), lambda: bay.execute("BLPOP", "k", 0), bay.connect):
        with pytest.raises(Closed, match="open a new one"):
            await call()
    assert bay.stats().wire.connections == 0
    await bay.close()


async def test_callers_in_line_hear_that_the_bay_is_closed_and_were_not_sent(make_either):
    go = threading.Event()

    def script(command):
        go.wait()
        return b":1\r\n" if command[0] == b"INCR" else b"+PONG\r\n"

    with peer(script) as other:
        bay = await make_either(other.url + "?max_in_flight=2&pool_size=2&read_timeout=20s").connect()
        calls = [start(bay, bay.execute("INCR", "n")) for _ in range(16)]
        await until(lambda: bay.stats().wire.in_flight == 2)
        closing = start(bay, bay.close())
        await asyncio.wait([closing], timeout=0.1)
        go.set()
        results = await finished(*calls)
        await closing
        served = [result for result in results if result == 1]
        assert len(served) >= 2
        assert {type(result) for result in results} <= {int, Closed}
        assert sum(command[0] == b"INCR" for command in other.commands) == len(served)


@pytest.mark.parametrize("work", ["calls", "blocks", "dials"])
async def test_closing_with_a_hung_server_takes_the_close_timeout_and_no_longer(make_either, work):
    with EmbeddedServer(port=0) as server:
        bay = await make_either(server.url + "?close_timeout=500ms&read_timeout=20s&min_idle=2").connect()
        process = int(re.search(rb"process_id:(\d+)", await bay.execute("INFO", "server"))[1])
        calls = [start(bay, bay.execute("BLPOP", "k", 0)) for _ in range(2 * (work == "blocks"))]
        await until(lambda: bay.stats().wire.in_flight == len(calls))
        os.kill(process, signal.SIGSTOP)
        try:
            calls += [start(bay, bay.execute("INCR", "n")) for _ in range(2)]
            await until(lambda: bay.stats().wire.in_flight == len(calls))
            calls += [start(bay, bay.execute("APPEND", "n", "v" * 100_000)) for _ in range(2 * (work == "dials"))]
            await asyncio.wait(calls, timeout=0.1)
            began = time.monotonic()
            await asyncio.wait_for(start(bay, bay.close()), 10)
            took = time.monotonic() - began
            _, left = await asyncio.wait(calls, timeout=0.5)
        finally:
            os.kill(process, signal.SIGCONT)
    results = await asyncio.wait_for(finished(*calls), 10)  # the end of the server ends what is left
    assert took < 0.9
    assert not left, "a caller still waits on a bay that was closed"
    assert {type(error) for error in results} <= {ConnectionLost, Closed}
    assert bay.stats().wire.connections == 0


async def test_closing_ends_what_blocks_for_ever(make_either, url, prefix):
    bay = await make_either(url + "?close_timeout=300ms").connect()
    other = await make_either(url).connect()
    waiting = start(bay, bay.execute("BLPOP", f"{prefix}k", 0))
    await until(lambda: bay.stats().wire.in_flight == 1)
    await asyncio.wait_for(start(bay, bay.close()), 5)
    _, left = await asyncio.wait([waiting], timeout=1)
    await other.execute("RPUSH", f"{prefix}k", "v")  # ends it in any case
    await finished(waiting)
    assert not left, "it would have blocked for ever, and the end of the process with it"
    assert await other.execute("LPOP", f"{prefix}k") == b"v"


async def test_closing_while_somebody_dials(make_either):
    hung = Peer(answers(b"+OK\r\n"))
    hung.greeting.update(dict.fromkeys(hung.greeting, b""))
    try:
        bay = make_either(hung.url + "?dial_timeout=1s&close_timeout=1s")
        calls = [start(bay, bay.execute("GET", "k")) for _ in range(4)]
        await until(lambda: hung.connections)
        await asyncio.wait_for(start(bay, bay.close()), 3)
        results = await asyncio.wait_for(finished(*calls), 3)
        assert {type(result) for result in results if not isinstance(result, Unavailable)} <= {Closed}
        assert bay.stats().wire.connections == 0
        await asyncio.sleep(0)
        limit = time.monotonic() + 2
        while any(thread.is_alive() for thread in hung._threads[1:]):
            assert time.monotonic() < limit, "a connection is still open"
            await asyncio.sleep(0.005)
    finally:
        hung.close()


async def test_an_idle_connection_that_swallows_the_ping_is_given_up_and_reported():
    events = []
    with peer(lambda command: b"" if command == [b"PING"] else b"+OK\r\n") as other:
        async with AsyncForebay(other.url + "?ping_every=200ms&read_timeout=200ms&close_timeout=100ms", on_event=events.append) as bay:
            assert await bay.execute("SET", "k", "v") == b"OK"
            await asyncio.wait_for(until(lambda: events), 3)
            assert [type(event).__name__ for event in events] == ["ConnectionDropped"]
            assert other.commands[1] == [b"PING"]
            assert await bay.execute("SET", "k", "v") == b"OK"


async def test_an_idle_connection_is_asked_and_lives_on():
    with peer(answers(b"+OK\r\n")) as other:
        async with AsyncForebay(other.url + "?ping_every=100ms&read_timeout=5s") as bay:
            await asyncio.wait_for(until(lambda: len(other.commands) >= 3), 3)
            assert other.commands[:3] == [[b"PING"]] * 3
            assert await bay.execute("SET", "k", "v") == b"OK"
            assert (bay.stats().wire.dropped, bay.stats().wire.dialled) == (0, 1)


def test_threads_ask_a_socket_that_was_idle_for_long_before_they_use_it():
    swallowing = True
    events = []

    def script(command):
        return b"" if command == [b"PING"] and swallowing else b"+OK\r\n"

    with peer(script) as other, Forebay(other.url + "?ping_every=200ms&read_timeout=200ms&min_idle=1", on_event=events.append) as bay:
        assert bay.execute("SET", "k", "v") == b"OK"
        assert len(other.commands) == 1, "one that is in use is not asked"
        bay.port.route._node._idle[0].used_at -= 1  # as if nobody had come for a second
        assert bay.execute("INCR", "k") == b"OK", "a write on a socket whose way has gone would have an unknown outcome"
        assert [command[0] for command in other.commands] == [b"SET", b"PING", b"INCR"]
        assert len(other.connections) == 2
        assert [type(event).__name__ for event in events] == ["ConnectionDropped"]
        swallowing = False
        bay.port.route._node._idle[0].used_at -= 1
        assert bay.execute("INCR", "k") == b"OK"
        assert len(other.connections) == 2


async def test_the_kernel_looks_after_every_tcp_socket(url, server):
    async with AsyncForebay(url) as bay, bay.subscribe("c") as news:
        await bay.execute("SET", "k", "v" * 100_000, "PX", 1000)
        [link] = bay.port.route._node._links.values()
        [lanes] = bay.port.route._node._lanes.values()
        sockets = [one._transport.get_extra_info("socket") for one in (link, lanes._idle[0], news._core._stream.link)]
        with Forebay(url) as sync:
            sockets += [one._socket for one in sync.port.route._node._idle]
            assert len(sockets) == 3 + 5
            for sock in sockets:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                if hasattr(socket, "TCP_KEEPIDLE"):
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15


INHERITED = []


def echo_in_child(url, number):
    """What a worker process does: with the bay of its parent if it was forked, and else with one of its own."""
    if not INHERITED:
        INHERITED.append(Forebay(url))
    return INHERITED[0].execute("ECHO", str(number)), INHERITED[0].execute("CLIENT", "ID")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_pools(method, url):
    context = multiprocessing.get_context(method)
    with Forebay(url) as bay:
        INHERITED[:] = [bay]
        mine = bay.execute("CLIENT", "ID")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            futures = [pool.submit(echo_in_child, url, number) for number in range(40)]
            here = [bay.execute("ECHO", str(number)) for number in range(40)]
            replies = [future.result() for future in futures]
        INHERITED.clear()
        assert here == [reply for reply, _ in replies] == [b"%d" % number for number in range(40)]
        assert mine not in {client for _, client in replies}
        assert bay.stats().wire.dropped == 0
