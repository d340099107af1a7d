"""Each fault of the proxy really happens, seen from bare sockets on a real server: a fault that does nothing would make the suite lie."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from forebay import EmbeddedServer
from forebay.wire.resp import pack
from tests.proxy import Corrupt, Cut, Delay, Dribble, Drop, Proxy, Refuse, Stall, proxy_to

ANSWER = b"$10\r\n0123456789\r\n"


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[Proxy]:
    with proxy_to(server.address()) as opened:
        yield opened


@pytest.fixture
def direct(server: EmbeddedServer) -> Iterator[socket.socket]:
    """A connection to the server that no fault can touch."""
    with socket.create_connection(("127.0.0.1", server.address().port), 5) as opened:
        yield opened


@contextlib.contextmanager
def through(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through *proxy* that has asked and been answered once."""
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        assert ask(client, "PING") == b"+PONG\r\n"
        yield client


def send(client: socket.socket, *words: str) -> None:
    client.sendall(pack(words))


def ask(client: socket.socket, *words: str) -> bytes:
    send(client, *words)
    return client.recv(65536)


def exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := client.recv(count - len(data))):
        data += more
    return data


def is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def silent(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return not client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)


def test_without_a_fault_everything_passes_and_connections_are_counted(proxy: Proxy, prefix: str) -> None:
    with through(proxy) as one, through(proxy) as other:
        assert ask(one, "SET", prefix, "0123456789") == b"+OK\r\n"
        assert ask(other, "GET", prefix) == ANSWER
        send(one, "SET", prefix, "x" * 3_000_000)
        assert one.recv(100) == b"+OK\r\n"
        send(other, "GET", prefix)
        assert len(exactly(other, 3_000_012)) == 3_000_012
        assert proxy.connections == 2
    assert proxy.until(lambda: proxy.connections == 0)
    assert (proxy.accepted, proxy.struck) == (2, 0)


@pytest.mark.parametrize("fault", [Delay(to_client=0.08), Delay(to_server=0.08)], ids=repr)
def test_delay(proxy: Proxy, fault: Delay) -> None:
    with through(proxy) as client:
        proxy.fault = fault
        began = time.monotonic()
        assert ask(client, "PING") == b"+PONG\r\n"
        assert time.monotonic() - began >= 0.08
        assert proxy.struck == 1


def test_a_delay_ends_with_the_fault(proxy: Proxy) -> None:
    with through(proxy) as client:
        proxy.fault = Delay(to_client=60)
        send(client, "PING")
        assert proxy.until(lambda: proxy.struck == 1)
        proxy.heal()
        assert client.recv(100) == b"+PONG\r\n"


@pytest.mark.parametrize("after", [0, 1, 9])
def test_cut_in_a_reply(proxy: Proxy, prefix: str, after: int) -> None:
    with through(proxy) as client, through(proxy) as other:
        ask(client, "SET", prefix, "0123456789")
        proxy.fault = Cut(after)
        send(client, "GET", prefix)
        assert exactly(client, 100) == ANSWER[:after]
        assert proxy.until(lambda: proxy.connections == 1)
        proxy.heal()
        assert ask(other, "GET", prefix) == ANSWER


def test_every_third_reply_is_cut(proxy: Proxy) -> None:
    proxy.fault = Cut(2, every=3)
    with through(proxy) as client:
        assert [ask(client, "PING") for _ in range(2)] == [b"+PONG\r\n", b"+P"]
        assert is_cut(client)


def test_dribble(proxy: Proxy, prefix: str) -> None:
    with through(proxy) as client:
        ask(client, "SET", prefix, "0123456789")
        proxy.fault = Dribble()
        send(client, "GET", prefix)
        pieces: list[bytes] = []
        while len(b"".join(pieces)) < len(ANSWER):
            pieces.append(client.recv(65536))
        assert b"".join(pieces) == ANSWER
        assert len(pieces) > 2


def test_lost_replies(proxy: Proxy, direct: socket.socket, prefix: str) -> None:
    with through(proxy) as client:
        proxy.fault = Drop(to_client=True)
        send(client, "SET", prefix, "0123456789")
        assert proxy.until(lambda: proxy.struck == 1)
        assert silent(client)
        assert ask(direct, "GET", prefix) == ANSWER  # the command ran all the same
        proxy.heal()
        assert is_cut(client)


def test_lost_commands(proxy: Proxy, direct: socket.socket, prefix: str) -> None:
    with through(proxy) as client, through(proxy) as spared:
        proxy.fault = Drop(to_server=True)
        send(client, "SET", prefix, "0123456789")
        assert proxy.until(lambda: proxy.struck == 1)
        assert silent(client)
        assert ask(direct, "EXISTS", prefix) == b":0\r\n"
        proxy.heal()
        assert is_cut(client)
        assert ask(direct, "EXISTS", prefix) == b":0\r\n"
        assert ask(spared, "PING") == b"+PONG\r\n"


def test_refuse(proxy: Proxy) -> None:
    with through(proxy) as client:
        proxy.fault = Refuse()
        assert is_cut(client)
        assert proxy.connections == 0
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), 5)
    proxy.heal()
    with through(proxy):
        assert proxy.accepted == 2


def test_corrupt(proxy: Proxy, prefix: str) -> None:
    with through(proxy) as client:
        ask(client, "SET", prefix, "0123456789")
        proxy.fault = Corrupt(every=2)
        assert [ask(client, "GET", prefix) for _ in range(4)] == [ANSWER, b"?" + ANSWER[1:]] * 2
        assert proxy.struck == 2


def test_a_reply_that_is_not_the_beginning_is_left_alone(proxy: Proxy, prefix: str) -> None:
    size = 5_000_000
    with through(proxy) as client:
        ask(client, "SET", prefix, "x" * size)
        proxy.fault = Corrupt()
        send(client, "GET", prefix)
        assert exactly(client, size + 12) == b"?%d\r\n%b\r\n" % (size, b"x" * size)
        assert proxy.struck == 1


def test_inject_reaches_idle_connections_alone(proxy: Proxy, prefix: str) -> None:
    with through(proxy) as idle, through(proxy) as busy, socket.create_connection(("127.0.0.1", proxy.port)):
        send(busy, "BLPOP", prefix, "0")
        assert silent(busy)  # by now the server has the command
        assert proxy.inject(ANSWER) == 1
        assert exactly(idle, len(ANSWER)) == ANSWER
        assert silent(busy)
        assert ask(idle, "PING") == b"+PONG\r\n"


def test_half_an_array_is_not_idle(proxy: Proxy, prefix: str) -> None:
    with through(proxy) as client:
        client.sendall(b"*2\r\n$4\r\nPING\r\n")
        assert silent(client)
        assert proxy.inject(ANSWER) == 0


def test_stall(proxy: Proxy, direct: socket.socket, prefix: str) -> None:
    with through(proxy) as client:
        proxy.fault = Stall()
        send(client, "SET", prefix, "0123456789")
        assert proxy.until(lambda: proxy.struck == 1)
        send(client, "GET", prefix)
        assert silent(client)
        assert ask(direct, "EXISTS", prefix) == b":0\r\n"
        proxy.heal()
        assert exactly(client, 5 + len(ANSWER)) == b"+OK\r\n" + ANSWER


def test_a_reply_that_was_under_way_stalls_too(proxy: Proxy, direct: socket.socket, prefix: str) -> None:
    with through(proxy) as client:
        send(client, "BLPOP", prefix, "0")
        assert silent(client)
        proxy.fault = Stall()
        assert ask(direct, "RPUSH", prefix, "x") == b":1\r\n"
        assert proxy.until(lambda: proxy.struck == 1)
        assert silent(client)
        proxy.heal()
        assert client.recv(100).endswith(b"$1\r\nx\r\n")


def test_closing_the_proxy_closes_everything(server: EmbeddedServer) -> None:
    with contextlib.ExitStack() as clients:
        with proxy_to(server.address()) as proxy:
            client = clients.enter_context(through(proxy))
            proxy.fault = Stall()
            send(client, "PING")
        assert is_cut(client)
        assert proxy.connections == 0
