"""A node that keeps failing is left alone: calls fail at once, one probe looks whether it is well, and then all goes on."""

import asyncio
import time

import pytest

from forebay import CircuitOpen, ConnectFailed, ConnectionLost, DeadlineExceeded, Overloaded
from tests.calling import answers, finished, start, until
from tests.patience import served_again
from tests.peer import Peer

VALUE = b"$5\r\nvalue\r\n"


class Door(Peer):
    """A peer whose connections are served, shut at once, or left without a word. Each connection was one dial."""

    def __init__(self, script):
        self.is_shut = False
        super().__init__(script)

    @property
    def dials(self):
        return len(self.connections)

    def mute(self):
        self.greeting.update(dict.fromkeys(self.greeting, b""))

    def speak(self):
        self.greeting.update({b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"CLIENT": b"+OK\r\n", b"SELECT": b"+OK\r\n", b"PING": b"+PONG\r\n"})

    def _serve(self, connection):
        if self.is_shut:
            connection.close()
        else:
            super()._serve(connection)


@pytest.fixture
def door():
    one = Door(answers(VALUE))
    yield one
    one.close()


def breaker(bay):
    return bay.stats().wire.nodes[0].breaker


async def opened(bay, door):
    """Call until the breaker opens."""
    door.is_shut = True
    while bay.stats().wire.nodes == () or breaker(bay) == "closed":
        with pytest.raises((ConnectFailed, ConnectionLost)):
            await bay.execute("GET", "k")


async def test_after_failures_in_a_row_calls_fail_at_once(make_either, door):
    bay = make_either(door.url)
    await opened(bay, door)
    assert door.dials == 5
    began = time.monotonic()
    with pytest.raises(CircuitOpen, match=rf"127.0.0.1:{door.port} failed 5 times in a row.*last: cannot connect"):
        await bay.execute("GET", "k")
    with pytest.raises(CircuitOpen):
        await bay.pipeline([("GET", "k"), ("GET", "k")])
    with pytest.raises(CircuitOpen):
        await bay.execute("SET", "k", "v" * 100_000)
    assert time.monotonic() - began < 1  # and not the deadline of 3 s, three times
    assert door.dials == 5
    assert breaker(bay) == "open"


async def test_64_callers_send_one_probe(make_either, door):
    bay = make_either(door.url + "?pool_size=64")
    await opened(bay, door)
    door.is_shut = False
    door.mute()
    dials = door.dials
    await asyncio.sleep(max(0.0, bay.port.route._node.breaker._until - time.monotonic()))  # now a probe is due
    calls = [start(bay, bay.execute("GET", "k")) for _ in range(64)]
    await until(lambda: door.dials > dials)
    left = set(calls)
    while len(left) > 1:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(call.exception(), CircuitOpen) for call in done)
    assert breaker(bay) in ("half-open", "open")  # on a slow machine the probe's time may be over before the last has failed
    assert door.dials == dials + 1
    assert isinstance((await finished(*left))[0], CircuitOpen)
    assert breaker(bay) == "open"
    assert door.dials == dials + 1


async def test_a_probe_that_is_answered_lets_everybody_through(make_either, door):
    bay = make_either(door.url)
    await opened(bay, door)
    door.is_shut = False
    assert await served_again(lambda: bay.execute("GET", "k")) == b"value"
    assert breaker(bay) == "closed"
    assert await finished(*(start(bay, bay.execute("GET", "k")) for _ in range(64))) == [b"value"] * 64
    assert bay.stats().wire.reconnects == 0, "nothing was dropped: there was no connection"


async def test_a_success_forgets_earlier_failures(make_either, door):
    bay = make_either(door.url)
    for _ in range(6):
        door.is_shut = True
        with pytest.raises((ConnectFailed, ConnectionLost)):
            await bay.execute("SET", "k", "v", timeout="1ms")
        door.is_shut = False
        assert await bay.execute("GET", "k") == b"value"
        door.connections[-1].shutdown(2)
    assert breaker(bay) == "closed"


async def test_a_lost_lane_is_reported_and_counts_as_a_failure(make_either, server, prefix):
    """What happens on a connection of its own is no less a sign of the server's health."""
    events = []
    bay = await make_either(server.url, on_event=events.append).connect()
    other = await make_either(server.url).connect()
    waiting = start(bay, bay.execute("BLPOP", f"{prefix}nothing", 0))
    mine = None
    while mine is None:
        await asyncio.sleep(0.001)
        lines = (await other.execute("CLIENT", "LIST")).decode().splitlines()
        mine = next((dict(part.split("=", 1) for part in line.split()) for line in lines if " cmd=blpop " in line), None)
    await other.execute("CLIENT", "KILL", "ID", mine["id"])
    assert isinstance((await finished(waiting))[0], ConnectionLost)
    assert [type(event).__name__ for event in events] == ["ConnectionDropped"]
    assert bay.stats().wire.dropped == 1


async def test_a_server_that_hangs_opens_the_breaker_too(make_either):
    silent = Door(lambda command: b"")
    try:
        bay = await make_either(silent.url + "?read_timeout=200ms&dial_timeout=200ms&min_idle=1").connect()
        silent.mute()
        for _ in range(2):  # few threads exchange at a time, so that one round is too few failures for them
            errors = await finished(*(start(bay, bay.execute("SET", "k", "v")) for _ in range(16)))
            assert {type(error) for error in errors} <= {DeadlineExceeded, Overloaded, ConnectFailed, CircuitOpen}
        assert breaker(bay) != "closed"
    finally:
        silent.close()
