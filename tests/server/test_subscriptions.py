"""Messages arrive in their order on a connection of its own, which is opened anew when it breaks and gone when it is closed."""

import asyncio
import os
import re
import signal
import threading
import time

import pytest

from forebay import AsyncForebay, Closed, ConnectFailed, EmbeddedServer, InvalidCommand, Message, ServerError, Unavailable
from tests.calling import answers, finished, start, until
from tests.peer import Peer


async def subscribed(bay, *channels, patterns=()):
    """Return an open subscription whose methods can be awaited in both colours."""
    if isinstance(bay, AsyncForebay):
        return await bay.subscribe(*channels, patterns=patterns).__aenter__()
    return OnThreads(bay.wrapped.subscribe(*channels, patterns=patterns).__enter__())


class OnThreads:
    """A sync subscription; a call that waits does so on a thread, so that the test goes on."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    async def get(self, timeout=None):
        return await asyncio.to_thread(self.wrapped.get, timeout)

    async def close(self):
        await asyncio.to_thread(self.wrapped.close)

    async def __aiter__(self):
        while (message := await asyncio.to_thread(next, self.wrapped, None)) is not None:
            yield message


async def clients(bay):
    """The subscribed clients that the server knows."""
    lines = (await bay.execute("CLIENT", "LIST")).decode().splitlines()
    found = [dict(part.split("=", 1) for part in line.split()) for line in lines]
    return [client for client in found if client["sub"] != "0" or client["psub"] != "0"]


async def no_clients(bay, but=0):
    limit = time.monotonic() + 3
    while len(left := await clients(bay)) > but:
        assert time.monotonic() < limit, left
        await asyncio.sleep(0.005)


@pytest.fixture
async def alone(make_either):
    """A bay of each colour on a server that nobody else uses, and that server."""
    with EmbeddedServer(port=0) as server:
        bay = await make_either(server.url).connect()
        yield bay, server
        await bay.close()


async def test_channels_and_patterns(either, prefix):
    news = await subscribed(either, f"{prefix}news", f"{prefix}ü", patterns=[f"{prefix}w?", f"{prefix}*s"])
    assert await either.execute("PUBLISH", f"{prefix}news", b"\x00\xff") == 2
    assert await either.execute("PUBLISH", f"{prefix}ü", "text") == 1
    assert await either.execute("PUBLISH", f"{prefix}w1", "1") == 1
    assert await either.execute("PUBLISH", f"{prefix}other", "lost") == 0
    assert [await news.get(5) for _ in range(4)] == [
        Message(f"{prefix}news", b"\x00\xff"),
        Message(f"{prefix}news", b"\x00\xff", f"{prefix}*s"),
        Message(f"{prefix}ü", b"text"),
        Message(f"{prefix}w1", b"1", f"{prefix}w?"),
    ]
    assert await news.get("50ms") is None
    await news.close()
    await news.close()
    with pytest.raises(Closed):
        await news.get(1)
    with pytest.raises(InvalidCommand, match="at least one channel"):
        await subscribed(either)


async def test_a_thousand_messages_keep_their_order_and_others_are_served_meanwhile(either, prefix):
    one, two = await subscribed(either, f"{prefix}c"), await subscribed(either, f"{prefix}c", patterns=[f"{prefix}d"])
    await either.pipeline([("PUBLISH", f"{prefix}c", number) for number in range(1000)])
    assert await either.execute("ECHO", "meanwhile") == b"meanwhile"
    for each in (one, two):
        assert [(await each.get(5)).data for _ in range(1000)] == [b"%d" % number for number in range(1000)]
        await each.close()


async def test_iterating_ends_when_another_closes(alone):
    bay, _ = alone
    news = await subscribed(bay, "c")
    seen = []

    async def read():
        async for message in news:
            seen.append(message.data)

    reading = asyncio.ensure_future(read())
    await bay.execute("PUBLISH", "c", "1")
    await until(lambda: seen)
    await news.close()
    await asyncio.wait_for(reading, 3)
    assert seen == [b"1"]
    await no_clients(bay)


async def test_closing_the_bay_ends_subscriptions_and_leaves_no_connection(alone, make_either):
    bay, server = alone
    other = await make_either(server.url).connect()
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    news = await subscribed(bay, "c")
    waiting = asyncio.ensure_future(news.get())
    await asyncio.wait([waiting], timeout=0.05)
    unread = await subscribed(bay, "d")
    await bay.close()
    [error] = await asyncio.wait_for(finished(waiting), 3)
    assert isinstance(error, Closed)
    with pytest.raises(Closed):
        await unread.get(1)
    await no_clients(other)
    assert asyncio.all_tasks() - {waiting} <= tasks
    assert {thread for thread in set(threading.enumerate()) - threads if not thread.name.startswith("asyncio_")} == set()


async def test_a_lost_connection_is_reported_and_opened_anew(url, make_either, prefix):
    events = []
    bay = await make_either(url, on_event=events.append).connect()
    news = await subscribed(bay, f"{prefix}c", patterns=[f"{prefix}p*"])
    for number in range(3):
        mine = [client for client in await clients(bay) if client["sub"] == "1" and client["psub"] == "1"]
        waiting = asyncio.ensure_future(news.get(10))
        assert await bay.execute("CLIENT", "KILL", "ID", mine[-1]["id"]) == 1
        limit = time.monotonic() + 5
        while await bay.execute("PUBLISH", f"{prefix}p1", number) == 0:
            assert time.monotonic() < limit
            await asyncio.sleep(0.005)
        assert await waiting == Message(f"{prefix}p1", b"%d" % number, f"{prefix}p*")
    assert [type(event).__name__ for event in events] == ["SubscriptionInterrupted"] * 3
    await news.close()


async def test_get_keeps_its_time_also_while_the_server_is_away(make_either):
    with EmbeddedServer(port=0) as server:
        bay = await make_either(server.url + "?dial_timeout=300ms").connect()
        news = await subscribed(bay, "c")
    waiting = asyncio.ensure_future(news.get("300ms"))
    await asyncio.wait([waiting], timeout=1.5)
    in_time = waiting.done()
    await news.close()
    await finished(waiting)
    assert in_time
    assert waiting.exception() is None or isinstance(waiting.exception(), Unavailable)


async def test_get_keeps_its_time_also_while_the_server_hangs(alone):
    bay, _ = alone
    process = int(re.search(rb"process_id:(\d+)", await bay.execute("INFO", "server"))[1])
    news = await subscribed(bay, "c")
    [client] = await clients(bay)
    await bay.execute("CLIENT", "KILL", "ID", client["id"])
    os.kill(process, signal.SIGSTOP)
    try:
        waiting = asyncio.ensure_future(news.get("300ms"))
        await asyncio.wait([waiting], timeout=1.5)
        in_time = waiting.done()
    finally:
        os.kill(process, signal.SIGCONT)
    await news.close()
    await finished(waiting)
    assert in_time


async def test_without_the_right_to_subscribe_the_servers_words_are_heard(alone, make_either):
    bay, server = alone
    await bay.execute("ACL", "SETUSER", "app", "on", ">secret", "+@all", "resetchannels", "&mine")
    mine = await make_either(server.url.replace("redis://", "redis://app:secret@")).connect()
    allowed = await subscribed(mine, "mine")
    await allowed.close()
    with pytest.raises((ServerError, ConnectFailed), match="NOPERM"):
        await subscribed(mine, "other")
    await no_clients(bay)


class Held(Peer):
    """Confirms subscriptions; from its second connection on the handshake waits until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        super().__init__(lambda command: b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" if command[0] == b"SUBSCRIBE" else b"+PONG\r\n")

    def _serve(self, connection):
        if len(self.connections) > 1:
            self.go.wait()
        super()._serve(connection)


async def test_closing_while_it_is_opened_anew_leaves_no_connection(make_either):
    held = Held()
    try:
        bay = make_either(held.url)
        news = await subscribed(bay, "c")
        waiting = asyncio.ensure_future(news.get())
        held.connections[0].shutdown(2)
        await until(lambda: len(held.connections) == 2)
        closing = asyncio.ensure_future(news.close())
        await asyncio.wait([closing], timeout=0.2)
        held.go.set()
        await asyncio.wait_for(finished(closing, waiting), 3)
        assert isinstance(waiting.exception(), Closed)
        await bay.close()
        # all sockets of the bay are gone: the peer's threads have read the end of each
        limit = time.monotonic() + 2
        while any(thread.is_alive() for thread in held._threads[1:]):
            assert time.monotonic() < limit, "a connection is still open"
            await asyncio.sleep(0.005)
    finally:
        held.go.set()
        held.close()


async def test_a_connection_that_went_silent_is_given_up_and_reported(make_either):
    confirmed = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    silent = Peer(lambda command: confirmed if command[0] == b"SUBSCRIBE" else b"")
    events = []
    try:
        bay = make_either(silent.url + "?ping_every=200ms&read_timeout=200ms", on_event=events.append)
        news = await subscribed(bay, "c")
        waiting = asyncio.ensure_future(news.get())
        limit = time.monotonic() + 2
        while not events and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        await news.close()
        await finished(waiting)
        assert [type(event).__name__ for event in events][:1] == ["SubscriptionInterrupted"]
    finally:
        silent.close()


async def test_a_subscription_that_nobody_confirms_is_refused(make_either):
    silent = Peer(answers(b""))
    try:
        bay = make_either(silent.url + "?read_timeout=300ms&dial_timeout=300ms")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(start(bay, opening(bay)), 8)
        assert time.monotonic() - began < 2.5
    finally:
        silent.close()


async def opening(bay):
    return bay.wrapped.subscribe("c").__enter__() if hasattr(bay, "wrapped") else await bay.subscribe("c").__aenter__()
