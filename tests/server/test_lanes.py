"""What may take long has a connection of its own, and gives it up with its caller; what would change a shared one is refused."""

import asyncio
import math
import time

import pytest

from forebay import ConnectionLost, DeadlineExceeded, InvalidCommand, Overloaded, ServerError
from tests.calling import finished, start, until
from tests.peer import peer

BLOCKING = {
    "BLPOP": ("BLPOP", "{k}", 0),
    "in bytes": (b"blpop", "{k}", 0),
    "in a memoryview": (memoryview(b"Blpop"), "{k}", 0),
    "in mixed case": ("BlPop", "{k}", "0"),
    "0 as bytes": ("BLPOP", "{k}", b"0"),
    "0.0": ("BLPOP", "{k}", 0.0),
    "BRPOP of two": ("BRPOP", "{k}2", "{k}", "0"),
    "BLMOVE": ("BLMOVE", "{k}", "{k}2", "LEFT", "RIGHT", 0),
    "BRPOPLPUSH": ("BRPOPLPUSH", "{k}", "{k}2", 0),
    "BLMPOP": ("BLMPOP", 0, 1, "{k}", "LEFT"),
    "BZPOPMIN": ("BZPOPMIN", "{k}", 0),
    "BZMPOP": ("bzmpop", 0, 1, "{k}", "MIN"),
    "XREAD": ("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "{k}", "$"),
    "xread in bytes": (b"xread", b"block", b"0", b"streams", "{k}", "$"),
    "XREADGROUP": ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "NOACK", "BLOCK", 0, "STREAMS", "{k}g", ">"),
    "a group called block": ("XREADGROUP", "GROUP", "block", "c", "BLOCK", 0, "STREAMS", "{k}g", ">"),
}


async def blocked(watcher, count):
    """Wait until the server holds so many blocked clients; return their lines of ``CLIENT LIST``."""
    limit = time.monotonic() + 5
    while len(found := await blocked_now(watcher)) != count:
        assert time.monotonic() < limit, f"{len(found)} clients are blocked, not {count}"
        await asyncio.sleep(0.002)
    return found


async def blocked_now(watcher):
    lines = (await watcher.execute("CLIENT", "LIST")).decode().splitlines()
    return [dict(part.split("=", 1) for part in line.split()) for line in lines if " flags=b " in line]


@pytest.fixture
async def watcher(bay, prefix):
    """A bay of its own that looks at the server, and ends what the test left blocked."""
    yield bay
    for client in await blocked_now(bay):
        await bay.execute("CLIENT", "KILL", "ID", client["id"])


@pytest.mark.parametrize("command", BLOCKING.values(), ids=BLOCKING)
async def test_what_blocks_stands_before_nobody(make_either, url, watcher, prefix, command):
    key = f"{prefix}k"
    for group in ("g", "block"):
        await watcher.execute("XGROUP", "CREATE", f"{key}g", group, "$", "MKSTREAM")
    bay = await make_either(url + "?read_timeout=2s&min_idle=1").connect()
    filled = [arg.format(k=key) if isinstance(arg, str) else arg for arg in command]
    waiting = [start(bay, bay.execute(*filled)) for _ in range(5)]
    [client, *_] = await blocked(watcher, 5)
    assert await bay.execute("ECHO", "small") == b"small"
    assert not any(call.done() for call in waiting)
    await watcher.execute("CLIENT", "UNBLOCK", client["id"])
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [call.result() for call in done] == [None]
    for client in await blocked(watcher, 4):
        await watcher.execute("CLIENT", "UNBLOCK", client["id"])
    assert await asyncio.gather(*waiting) == [None] * 5


@pytest.mark.parametrize(
    "name", ["GET", b"GET", memoryview(b"GET"), memoryview(bytearray(b"GET"))], ids=["str", "bytes", "view", "bytearray"]
)
async def test_a_name_may_be_of_any_type_that_an_argument_may_be(either, prefix, name):
    assert await either.execute(name, f"{prefix}k") is None
    assert await either.pipeline([(name, f"{prefix}k")]) == [None]


async def test_a_block_longer_than_the_read_timeout_is_waited_for(make_either, url, prefix):
    bay = await make_either(url + "?read_timeout=200ms").connect()
    began = time.monotonic()
    assert await bay.execute("BLPOP", f"{prefix}k", 0.4) is None
    assert await bay.execute("XREAD", "BLOCK", 300, "STREAMS", f"{prefix}k", "$") is None
    assert await bay.pipeline([("PING",), ("BLPOP", f"{prefix}k", "0.3")]) == [b"PONG", None]
    assert 0.9 < time.monotonic() - began < 4
    assert bay.stats().wire.dropped == 0


async def test_a_block_for_ever_ends_with_what_it_waits_for(make_either, url, watcher, prefix):
    bay = await make_either(url + "?read_timeout=200ms").connect()
    waiting = start(bay, bay.execute("BLPOP", f"{prefix}k", 0))
    await blocked(watcher, 1)
    await asyncio.wait([waiting], timeout=0.5)  # more than twice the read timeout: silence is no fault here
    assert not waiting.done()
    await watcher.execute("RPUSH", f"{prefix}k", "v")
    assert await waiting == [f"{prefix}k".encode(), b"v"]


async def test_a_timeout_ends_a_block_and_loses_nothing(make_either, url, watcher, prefix):
    bay = await make_either(url).connect()
    for block in (0, 30):
        with pytest.raises(DeadlineExceeded):
            await bay.execute("BLPOP", f"{prefix}k", block, timeout="200ms")
        await watcher.execute("RPUSH", f"{prefix}k", "v")
        assert await watcher.execute("LPOP", f"{prefix}k") == b"v"
    assert bay.stats().wire.nodes[0].breaker == "closed"


async def test_a_cancelled_block_takes_its_connection_with_it_and_no_element(bay, watcher, prefix):
    for steps in range(40):
        waiting = asyncio.ensure_future(bay.execute("BLPOP", f"{prefix}k", 0))
        if steps % 2:
            await blocked(watcher, 1)
        for _ in range(steps // 2):  # before the dial, in its middle, at its end, ...
            await asyncio.sleep(0)
        waiting.cancel()
        await finished(waiting)
        assert waiting.cancelled()
        await blocked(watcher, 0)
        await watcher.execute("RPUSH", f"{prefix}k", "v")
        assert await watcher.execute("LPOP", f"{prefix}k") == b"v"
    assert bay.stats().wire.in_flight == 0


WRONG = [
    *[("BLPOP", "k", seconds) for seconds in (-5, "nan", "1e300", 10**25, math.inf, "soon")],
    *[("BLPOP",), ("BLMPOP", 0), ("XREAD",), ("XREAD", "BLOCK"), ("XREAD", "BLOCK", -7, "STREAMS", "k", "0")],
]


@pytest.mark.parametrize("command", WRONG)
async def test_what_is_wrong_with_a_block_is_said_by_the_server(either, command):
    with pytest.raises(ServerError):
        await either.execute(*command)
    assert either.stats().wire.dropped == 0


async def test_large_commands_take_a_connection_of_their_own_which_is_used_again(bay, prefix):
    assert bay.stats().wire.connections == 1
    for number in range(5):
        await bay.execute("SET", f"{prefix}{number}", b"v" * 70_000)
    stats = bay.stats().wire
    assert (stats.connections, stats.idle, stats.dialled, stats.hits, stats.misses) == (2, 2, 2, 4, 1)
    await bay.pipeline([("SET", f"{prefix}{number}", b"v" * 7000) for number in range(10)])
    await bay.transaction([("SET", f"{prefix}{number}", b"v" * 7000) for number in range(10)])
    assert bay.stats().wire.dialled == 2


async def test_the_pool_size_bounds_the_lanes(make_either, url, watcher, prefix):
    bay = await make_either(url + "?pool_size=3&min_idle=1&read_timeout=300ms").connect()
    waiting = [start(bay, bay.execute("BLPOP", f"{prefix}k", 0)) for _ in range(3)]
    await blocked(watcher, 3)
    with pytest.raises(Overloaded, match=r"all 3 .*connections.* were busy .*REDIS_POOL_SIZE"):
        await bay.execute("BLPOP", f"{prefix}k", 0)
    assert len(await blocked_now(watcher)) == 3
    for number in range(3):
        await watcher.execute("RPUSH", f"{prefix}k", number)
    assert len(await asyncio.gather(*waiting)) == 3
    assert await bay.execute("BLPOP", f"{prefix}k", 0.05) is None
    assert bay.stats().wire.connections <= 3 + 1


async def test_of_idle_lanes_only_the_minimum_is_kept(url, make_either, watcher, prefix):
    bay = await make_either(url + "?pool_size=8&min_idle=2").connect()
    expected = 8 if hasattr(bay, "wrapped") else 1 + 2  # the threads' pool keeps for minutes what is idle
    waiting = [start(bay, bay.execute("BLPOP", f"{prefix}k", 0)) for _ in range(8)]
    await blocked(watcher, 8)
    for number in range(8):
        await watcher.execute("RPUSH", f"{prefix}k", number)
    assert {reply[1] for reply in await asyncio.gather(*waiting)} == {b"%d" % number for number in range(8)}
    assert bay.stats().wire.connections <= expected
    assert bay.stats().wire.dropped == 0


async def test_a_lane_that_was_closed_while_idle_is_replaced_without_an_error(bay, prefix):
    with peer(lambda command: b"+OK\r\n") as other:
        async with type(bay)(other.url + "?min_idle=1") as mine:
            assert await mine.execute("SET", "k", b"v" * 70_000) == b"OK"
            other.connections[1].shutdown(2)
            await until(lambda: mine.stats().wire.connections == 1)
            assert await mine.execute("SET", "k", b"v" * 70_000) == b"OK"
            assert len(other.connections) == 3


REFUSED = {
    "SELECT": (("SELECT", 1), "REDIS_DB"),
    "select in bytes": ((b"select", 1), "REDIS_DB"),
    "Multi": (("Multi",), r"transaction\("),
    "EXEC": (("EXEC",), r"transaction\("),
    "watch": ((b"watch", "k"), r"transaction\("),
    "SUBSCRIBE": (("SUBSCRIBE", "c"), r"subscribe\("),
    "pSubscribe": ((b"pSubscribe", "c"), r"subscribe\("),
    "SSUBSCRIBE": (("SSUBSCRIBE", "c"), r"subscribe\("),
    "UNSUBSCRIBE": (("UNSUBSCRIBE",), r"subscribe\("),
    "AUTH": (("AUTH", "secret"), "REDIS_PASSWORD"),
    "HELLO 2": (("hello", 2), "Forebay does that itself"),
    "RESET": (("RESET",), "Forebay does that itself"),
    "QUIT": (("quit",), "Forebay does that itself"),
    "MONITOR": (("MONITOR",), "its answer never ends"),
    "SYNC": (("SYNC",), "its answer never ends"),
    "CLIENT REPLY OFF": (("CLIENT", "REPLY", "OFF"), "Forebay does that itself"),
    "client reply skip": ((b"client", b"reply", b"skip"), "Forebay does that itself"),
    "CLIENT TRACKING": (("Client", "Tracking", "ON"), "Forebay does that itself"),
    "CLIENT SETNAME": (("CLIENT", "SETNAME", "mine"), "Forebay does that itself"),
    "CLIENT CAPA": (("CLIENT", "CAPA", "redirect"), "Forebay"),
    "REPLCONF": (("REPLCONF", "ACK", 0), "REPLCONF"),
    "SCRIPT DEBUG": (("SCRIPT", "DEBUG", "YES"), "SCRIPT DEBUG"),
}
ALONE = {"WAIT": (("WAIT", 0, 0), r"in a pipeline\("), "waitaof": ((b"waitaof", 0, 0, 0), r"in a pipeline\(")}


@pytest.mark.parametrize(("command", "remedy"), (REFUSED | ALONE).values(), ids=REFUSED | ALONE)
async def test_what_would_change_the_connection_is_refused_and_says_what_to_use(either, command, remedy):
    calls = [lambda: either.execute(*command), lambda: either.execute(*command, timeout=9)]
    if command not in [one for one, _ in ALONE.values()]:
        calls.append(lambda: either.pipeline([("PING",), command]))
    calls.append(lambda: either.transaction([("PING",), command]))
    for call in calls:
        with pytest.raises(InvalidCommand, match=remedy):
            await call()
    assert await finished(*(start(either, either.execute("ECHO", str(number))) for number in range(8))) == [
        b"%d" % number for number in range(8)
    ]
    assert either.stats().wire.dropped == 0


async def test_wait_counts_the_replicas_behind_the_writes_of_its_pipeline(either, prefix):
    assert await either.pipeline([("SET", f"{prefix}k", 1), ("WAIT", 0, 100)]) == [b"OK", 0]
    assert await either.pipeline([("SET", f"{prefix}k", 1), (b"wait", "1", "50")]) == [b"OK", 0]
    assert await either.execute("CLIENT", "ID") > 0
    with pytest.raises(InvalidCommand, match="does not block in a transaction"):
        await either.transaction([("SET", f"{prefix}k", 1), ("BLPOP", f"{prefix}k", 0)])


async def test_a_lane_that_is_lost_fails_its_caller_and_nobody_else(make_either, url, watcher, prefix):
    bay = await make_either(url).connect()
    waiting = [start(bay, bay.execute("BLPOP", f"{prefix}{number}", 0)) for number in range(2)]
    first, second = await blocked(watcher, 2)
    await watcher.execute("CLIENT", "KILL", "ID", first["id"])
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [type(call.exception()) for call in done] == [ConnectionLost]
    assert await bay.execute("ECHO", "small") == b"small"
    await watcher.execute("CLIENT", "UNBLOCK", second["id"])
    assert await finished(*left) == [None]
