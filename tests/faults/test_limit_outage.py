"""With the server gone, hung, refusing or unheard a limit says what `on_outage` says: in time, reported, and by no other exception."""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

import pytest

from forebay import Forebay, ForebayError, LimitUndecided, Rate, RateLimited, Unavailable
from tests.calling import finished, start
from tests.peer import peer
from tests.proxy import Drop, proxy_to
from tests.server.test_hit_all import bare
from tests.server.test_limit_waiting import slot
from tests.server.test_limits import LONG, names_of
from tests.server.test_near import until
from tests.servers import Node, free_ports, start_all

DEADLINE = 0.1
TOLERANCE = 0.25  # for a machine that has other work
MOMENT = 1.0
FAULTS = ("gone", "hung", "no right", "replies lost", "commands lost")


class Ill:
    """A server, the proxy before it, and one way to be of no use to limits."""

    def __init__(self, node, proxy, fault):
        self.node, self.proxy, self.fault = node, proxy, fault
        self.url = f"{proxy.url}?limit_deadline={DEADLINE * 1000:g}ms"

    def begin(self):
        if self.fault == "gone":
            self.node.kill()
        elif self.fault == "hung":
            os.kill(self.node.pid, signal.SIGSTOP)
        elif self.fault == "no right":
            self.node.call("ACL", "SETUSER", "default", "-evalsha", "-eval")
        else:
            self.proxy.fault = Drop(to_client=self.fault == "replies lost", to_server=self.fault == "commands lost")

    def end(self):
        if self.fault == "gone":
            start_all([self.node])
        elif self.fault == "hung":
            os.kill(self.node.pid, signal.SIGCONT)
        elif self.fault == "no right":
            self.node.call("ACL", "SETUSER", "default", "+@all")
        else:
            self.proxy.heal()


@pytest.fixture(scope="module")
def node():
    made = Node(free_ports(1)[0])
    start_all([made])
    yield made
    made.stop()


@pytest.fixture(params=FAULTS)
def ill(request, node):
    from forebay.wire.address import Address

    if not node.running:
        start_all([node])
    with proxy_to(Address(host="127.0.0.1", port=node.port)) as proxy:
        yield Ill(node, proxy, request.param)
    if node.running:
        os.kill(node.pid, signal.SIGCONT)
        node.call("ACL", "SETUSER", "default", "+@all")


async def timed(call):
    began = time.monotonic()
    return await call, time.monotonic() - began


async def decided_again(limiter, key="ada"):
    """Wait for a moment, and no longer, until the server decides."""
    limit = time.monotonic() + MOMENT
    while (verdict := await limiter.hit(key)).undecided:
        assert time.monotonic() < limit, "not within a moment"
        await asyncio.sleep(0.01)
    return verdict


@pytest.mark.parametrize("outcome", ["open", "closed", "local"])
async def test_on_outage_decides_and_is_reported(make_either, prefix, ill, outcome, caplog):
    events = []
    bay = await make_either(ill.url, prefix=prefix, on_event=events.append).connect()
    limiter = bay.limiter("api", Rate(20, LONG), on_outage=outcome)
    assert (await limiter.hit("ada")).decided_by == "server"
    ill.begin()
    events.clear()
    caplog.clear()
    found = [await timed(limiter.hit("ada")) for _ in range(7)]
    verdicts = [verdict for verdict, _ in found]
    limit, passing = {"open": (20, 7), "closed": (20, 0), "local": (2, 2)}[outcome]
    assert {(verdict.decided_by, verdict.undecided, verdict.limit) for verdict in verdicts} == {(outcome, True, limit)}
    assert [verdict.allowed for verdict in verdicts] == [True] * passing + [False] * (7 - passing)
    assert [verdict.retry_after > 0 for verdict in verdicts] == [not verdict.allowed for verdict in verdicts]
    assert statistics.median(took for _, took in found) < DEADLINE + TOLERANCE
    undecided = [event for event in events if isinstance(event, LimitUndecided)]
    assert [(event.policy, event.key, event.outcome) for event in undecided] == [("api", "ada", outcome)] * 7
    assert all(isinstance(event.cause, ForebayError) for event in undecided)
    stats = bay.stats()
    assert (stats.reported["LimitUndecided"], stats.limits["api"].undecided) == (7, 7)
    assert stats.limits["api"].allowed + stats.limits["api"].refused == 8
    records = [record.getMessage() for record in caplog.records if "could not be decided" in record.getMessage()]
    assert 1 <= len(records) <= 3
    assert not any("ada" in record for record in records)
    ill.end()
    await decided_again(limiter)


async def test_nothing_else_is_raised_and_all_agree(make_either, prefix, ill):
    bay = await make_either(ill.url, prefix=prefix).connect()
    rate = Rate(20, LONG)
    is_open, closed, local = (bay.limiter(kind, rate, on_outage=kind, concurrency=1) for kind in ("open", "closed", "local"))
    for limiter in (is_open, closed, local):
        await limiter.hit("ada")
    ill.begin()
    assert (await is_open.peek("ada")).allowed
    assert not (await closed.peek("ada")).allowed
    assert [(await local.peek("ada")).remaining for _ in range(3)] == [2, 2, 2], "to look charges nothing"
    assert (await is_open.acquire("ada")).decided_by == "open"
    with pytest.raises(RateLimited, match="cannot be checked"):
        await closed.acquire("ada", "500ms")
    assert (await bay.hit_all([(bare(is_open), "ada"), (bare(local), "ada")])).allowed
    assert not (await bay.hit_all([(bare(is_open), "ada"), (bare(closed), "ada")])).allowed
    async with slot(is_open, timeout="1s"), slot(local, timeout="1s") as held:
        assert held.token == ""
    with pytest.raises(RateLimited, match="cannot be checked"):
        async with slot(closed, timeout="1s"):
            pytest.fail("entered")
    if ill.fault == "no right":  # to forget takes no script
        assert await is_open.reset("ada")
    else:
        with pytest.raises(Unavailable):
            await is_open.reset("ada")
    with pytest.raises(ForebayError):
        await is_open.set_rates("ada", "1/s", 5)
    ill.end()
    for limiter in (is_open, closed, local):
        await decided_again(limiter)


async def test_an_unknown_outcome_is_not_repeated(make_either, prefix, ill):
    bay = await make_either(ill.url, prefix=prefix).connect()
    limiter = bay.limiter("api", Rate(1000, LONG))
    for _ in range(10):
        await limiter.hit("ada")
    ill.begin()
    for _ in range(8):
        await limiter.hit("ada")
    ill.end()
    charged = 1000 - (await decided_again(limiter)).remaining
    tried = bay.stats().limits["api"].allowed
    assert charged <= tried
    if ill.fault == "hung":
        assert charged > 11, "what was sent runs when the server goes on"


@pytest.mark.parametrize("ill", ["hung"], indirect=True)
async def test_the_deadline_holds_for_many_at_once(make_either, prefix, ill):
    bay = await make_either(ill.url, prefix=prefix).connect()
    limiter = bay.limiter("api", Rate(1000, LONG))
    await limiter.hit("ada")
    ill.begin()
    found = await finished(*(start(bay, timed(limiter.hit("ada"))) for _ in range(32)))
    assert all(verdict.decided_by == "open" for verdict, _ in found)
    assert statistics.median(took for _, took in found) < DEADLINE + 2 * TOLERANCE
    ill.end()
    await decided_again(limiter)


async def test_a_key_that_holds_something_else_is_undecided(either):
    limiter = either.limiter("api", Rate(3, LONG), algorithm="sliding_log", on_outage="closed")
    await either.execute("SET", names_of(limiter, "ada")[0], "something else", "PX", 60_000)
    assert (await limiter.hit("ada")).decided_by == "closed"
    assert either.stats().reported == {"LimitUndecided": 1}
    await limiter.reset("ada")
    assert (await limiter.hit("ada")).remaining == 2


async def test_one_key_that_cannot_be_decided_keeps_no_other_from_it(either):
    """Hits that leave together may be one call: what is wrong with one of them is not the others' business."""
    limiter = either.limiter("api", Rate(100, LONG), algorithm="sliding_log", on_outage="closed")
    others = either.limiter("others", Rate(100, LONG), on_outage="closed")
    await either.execute("SET", names_of(limiter, "ill")[0], "something else", "PX", 60_000)
    for round_ in range(1, 6):
        asked = [(limiter, "a"), (others, "a"), (limiter, "ill"), (limiter, "b"), (others, "b")]
        verdicts = await finished(*(start(either, each.hit(key)) for each, key in asked))
        assert [verdict.decided_by for verdict in verdicts] == ["server", "server", "closed", "server", "server"]
        assert [verdict.remaining for verdict in verdicts if verdict.allowed] == [100 - round_] * 4


async def test_who_is_cancelled_takes_no_other_along(bay):
    limiter = bay.limiter("api", Rate(100, LONG))
    await limiter.hit("ada")
    tasks = [asyncio.ensure_future(limiter.hit("ada")) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await finished(*tasks)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert all(result.decided_by == "server" for result in results[1::2])
    left = (await limiter.peek("ada")).remaining
    assert 89 <= left <= 94
    assert (await limiter.hit("ada")).remaining == left - 1


async def test_a_server_that_loads_is_away(make_either):
    with peer(lambda command: b"-LOADING the dataset is in memory soon\r\n") as one:
        bay = make_either(f"{one.url}?limit_deadline=100ms")
        for outcome in ("open", "closed", "local"):
            verdict, took = await timed(bay.limiter("api", "20/minute", on_outage=outcome).hit("ada"))
            assert verdict.decided_by == outcome
            assert took < DEADLINE + TOLERANCE
        assert bay.stats().reported["LimitUndecided"] == 3
        await bay.close()


async def test_a_server_that_has_lost_its_scripts_is_told_them_again(either):
    limiter = either.limiter("api", Rate(1000, LONG))
    for number in range(1, 6):
        assert (await limiter.hit("ada")).remaining == 1000 - number
        await either.execute("SCRIPT", "FLUSH")
    assert either.stats().reported == {}


@pytest.mark.parametrize("ill", ["gone"], indirect=True)
async def test_after_a_restart_limits_go_on(make_either, prefix, ill):
    bay = await make_either(ill.url, prefix=prefix).connect()
    limiter = bay.limiter("api", Rate(3, LONG), on_outage="closed")
    await limiter.hit("ada", 3)
    await until(lambda: from_memory(limiter))
    ill.begin()
    assert not (await limiter.hit("bob")).allowed
    ill.end()
    await decided_again(limiter, "bob")
    assert (await limiter.hit("ada")).remaining == 2, "what a dead connection tracked is not remembered"


async def from_memory(limiter):
    return (await limiter.hit("ada")).decided_by == "memory"


AWAY = """
import asyncio, sys, time
from forebay import AsyncForebay, Forebay
limits = dict(lease=10, on_outage="closed")
if sys.argv[2] == "threads":
    bay = Forebay(sys.argv[1], required=False).connect()
    limiter = bay.limiter("api", "100/minute", **limits)
    print([limiter.hit("ada").decided_by for _ in range(8)])
else:
    async def main():
        async with AsyncForebay(sys.argv[1], required=False) as bay:
            limiter = bay.limiter("api", "100/minute", **limits)
            print([(await limiter.hit("ada")).decided_by for _ in range(8)])
    asyncio.run(main())
"""


@pytest.mark.parametrize("colour", ["asyncio", "threads"])
def test_a_lease_that_cannot_be_had_ends_in_on_outage_too(colour):
    """In a process of its own: a loop that never ends would take this one with it."""
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0?limit_deadline=100ms"
    done = subprocess.run([sys.executable, "-c", AWAY, away, colour], capture_output=True, text=True, check=False, timeout=15)
    assert done.stdout == f"{['closed'] * 8}\n", done.stderr


async def test_locally_no_more_passes_than_the_share(make_either, prefix):
    bay = await make_either(f"redis://127.0.0.1:{free_ports(1)[0]}/0?limit_deadline=20ms", prefix=prefix, required=False).connect()
    limiter = bay.limiter("api", "200/10s", on_outage="local", local_share=0.25)
    began = time.monotonic()
    results = await finished(*(start(bay, hits(limiter, 10)) for _ in range(16)))
    most = 50 + 5 * (time.monotonic() - began)
    assert 50 <= sum(results) <= most
    assert (await limiter.hit("bob")).allowed, "each key has its own"


async def hits(limiter, times):
    return sum([(await limiter.hit("ada")).allowed for _ in range(times)])


@pytest.mark.parametrize("refusal", [b"-NOPERM no\r\n", b"-BUSY a script runs\r\n"], ids=["never", "not now"])
async def test_nothing_is_remembered_where_nobody_would_tell(make_either, refusal):
    refused = b"*1\r\n*6\r\n:0\r\n:1\r\n_\r\n:0\r\n:60000000\r\n:60000000\r\n"
    state = b"8640000000000:3:8795885960192287:0"
    replies = {
        b"CLIENT": refusal,
        b"mget": b"*2\r\n$%d\r\n%b\r\n_\r\n" % (len(state), state),
        b"get": b"_\r\n",
        b"pttl": b":-2\r\n",
        b"time": b"*2\r\n$10\r\n1795885960\r\n$1\r\n1\r\n",
    }
    with peer(lambda command: replies.get(command[0], refused)) as one:
        one.greeting[b"TRACKING"] = refusal
        bay = make_either(one.url)
        limiter = bay.limiter("api", Rate(3, LONG))
        for _ in range(20):
            assert (await limiter.hit("ada")).decided_by == "server"
            await asyncio.sleep(0.01)  # what should not come has time to
        await bay.close()


def test_a_flood_of_refusals_does_not_keep_a_reset_from_being_heard(sync_bay, url, prefix):
    """Threads are told on one connection: what it tells must not wait until nobody is refused any more."""
    limiter, flooded = sync_bay.limiter("api", "1/day"), sync_bay.limiter("flood", Rate(1, "20ms"))
    over = threading.Event()

    def flood(number):
        count = 0
        while not over.is_set():
            count += 1
            for _ in range(2):
                flooded.hit(f"{number}:{count}")

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(3)]
    with Forebay(url, prefix=prefix) as other:
        limiter.hit("ada")
        while limiter.hit("ada").decided_by != "memory":
            time.sleep(0.001)
        try:
            for thread in threads:
                thread.start()
            time.sleep(1.0)  # the longer it goes on, the more there is to tell
            other.limiter("api", "1/day").reset("ada")
            began = time.monotonic()
            while not limiter.hit("ada").allowed and time.monotonic() < began + 3:
                time.sleep(0.001)
            took = time.monotonic() - began
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert took < 1
