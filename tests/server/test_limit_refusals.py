"""A refusal that a process remembers costs no command, agrees with the server, and is dropped by whatever could let the key pass."""

import asyncio
import subprocess
import sys
import time

import pytest

from forebay import InvalidCost, InvalidKey, Rate
from forebay.ratelimit.policy import Question
from forebay.ratelimit.scripts import LAWS
from tests.either import as_either
from tests.own_clients import Kind, ended
from tests.races.gate import Gate, Hold
from tests.server.test_limits import BAD_KEYS, LONG, core_of, names_of, passes, remembered
from tests.server.test_near import calls, until


@pytest.fixture
def rate():
    return Rate(3, LONG)


@pytest.fixture(params=LAWS)
def algorithm(request):
    return request.param


@pytest.fixture
async def other(make_either, url, prefix):
    """Another bay on the same keys."""
    return await make_either(url, prefix=prefix).connect()


def refusals_of(limiter):
    return core_of(limiter).policy._refusals


def forgets(limiter):
    """Wait until nothing is remembered."""
    return until(lambda: not refusals_of(limiter).held)


async def test_a_refused_key_costs_no_command(either, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    await either.execute("CONFIG", "RESETSTAT")
    before = either.stats().limits["api"]
    for cost in (1, 2, 3):
        for _ in range(50):
            verdict = await limiter.hit("ada", cost)
            assert (verdict.allowed, verdict.decided_by, verdict.remaining) == (False, "memory", 0)
    assert await calls(either) == {}
    after = either.stats().limits["api"]
    assert after.remembered - before.remembered == after.refused - before.refused == 150


async def test_what_is_wrong_is_told_also_while_a_refusal_is_remembered(either, rate):
    limiter = either.limiter("api", rate)
    for key in ("1", "ada"):
        await limiter.hit(key, 3)
        await remembered(limiter, key)
    for cost in (0, -1, True, 1.0, 4, None):
        with pytest.raises(InvalidCost):
            await limiter.hit("ada", cost)
    for key in BAD_KEYS:
        with pytest.raises(InvalidKey):
            await limiter.hit(key)


async def test_a_cheaper_hit_that_would_pass_is_asked_for(either, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    await limiter.hit("ada", 1)
    await remembered(limiter, "ada", 3)
    verdict = await limiter.hit("ada", 2)
    assert (verdict.allowed, verdict.decided_by, verdict.remaining) == (True, "server", 0)
    assert not (await limiter.hit("ada")).allowed


@pytest.mark.parametrize("rates", [[Rate(1000, "1h")], [Rate(1000, "1h"), Rate(1500, "1d")]], ids=["one", "two"])
async def test_what_is_remembered_agrees_with_the_server(either, algorithm, rates):
    if algorithm == "gcra":
        rates = [Rate(each.limit, each.per, each.limit // 2 + 3) for each in rates]
    limiter = either.limiter("api", rates, algorithm=algorithm)
    for cost in (7, 100, 1, rates[0].burst - 200):
        await limiter.hit("ada", cost)
    await remembered(limiter, "ada", 150)
    for cost in (93, 94, 150, rates[0].burst):
        before, found, after = await limiter.peek("ada", cost), await limiter.hit("ada", cost), await limiter.peek("ada", cost)
        assert found.decided_by == "memory"
        assert (found.policy, found.rate, found.limit) == (before.policy, before.rate, before.limit)
        for first, mine, last in zip(before.each, found.each, after.each, strict=True):
            assert mine.rate == first.rate
            assert first.remaining <= mine.remaining <= last.remaining + 1
            assert last.retry_after - 0.1 <= mine.retry_after <= first.retry_after
            assert last.reset_after - 0.1 <= mine.reset_after <= first.reset_after


async def test_the_first_hit_after_retry_after_passes(either, algorithm):
    """What is remembered is dated from before it was read, so that ``retry_after`` may be early by as long as that took, and never late."""
    limiter = either.limiter("api", Rate(2, "300ms"), algorithm=algorithm)
    by_memory = 0
    for _ in range(4):
        await passes(limiter, "ada", 2)
        await limiter.hit("ada", 2)
        await asyncio.sleep(0.02)  # it may be remembered by then
        again = await limiter.hit("ada", 2)
        if not again.allowed:
            by_memory += again.decided_by == "memory"
            await asyncio.sleep(again.retry_after + 0.05)
            assert (await limiter.hit("ada", 2)).allowed, again
    assert by_memory


async def test_no_hit_is_refused_from_memory_that_the_server_would_let_through(either, algorithm):
    limiter = either.limiter("api", Rate(2, "200ms"), algorithm=algorithm)
    wrong, late, limit = [], [], time.monotonic() + 1.0
    while time.monotonic() < limit:
        before, verdict = await limiter.peek("ada"), await limiter.hit("ada")
        if verdict.decided_by == "memory":
            wrong += [(before, verdict)] if before.allowed else []
            late += [(before, verdict)] if verdict.retry_after > before.retry_after else []
        await asyncio.sleep(0)
    assert (wrong, late) == ([], [])
    stats = either.stats().limits["api"]
    assert stats.allowed >= 4
    assert stats.remembered


async def test_a_reset_elsewhere_is_heard_of(either, other, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    assert await other.limiter("api", rate, algorithm=algorithm).reset("ada")
    assert (await passes(limiter, "ada")).remaining == 2


async def test_a_reset_of_ones_own_holds_at_once(either, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    for _ in range(10):
        await limiter.hit("ada", 3)
        await remembered(limiter, "ada")
        assert await limiter.reset("ada")
        assert (await limiter.hit("ada")).remaining == 2
        await limiter.reset("ada")


async def test_anybodys_del_is_heard_of(either, other, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    assert await other.execute("DEL", names_of(limiter, "ada")[0]) == 1
    assert (await passes(limiter, "ada")).remaining == 2


async def test_who_becomes_exempt_is_so_at_once(either, rate):
    exempt = set()
    limiter = either.limiter("api", rate, exempt=lambda key: key in exempt)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    exempt.add("ada")
    assert (await limiter.hit("ada")).decided_by == "exempt"
    exempt.clear()
    assert not (await limiter.hit("ada")).allowed


async def test_what_rate_for_returns_holds_at_once_also_while_a_refusal_is_remembered(either, algorithm, rate):
    plans = {}
    limiter = either.limiter("api", rate, algorithm=algorithm, rate_for=plans.get)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    plans["ada"] = Rate(5, LONG)
    assert (await limiter.hit("ada")).allowed
    assert (await limiter.hit("ada")).remaining == 0
    plans["ada"] = Rate(1, LONG)
    assert not (await limiter.hit("ada")).allowed
    verdict = await remembered(limiter, "ada")
    assert (verdict.limit, verdict.rate) == (1, Rate(1, LONG))


async def test_own_rates_hold_in_another_bay_at_once(either, make_either, url, prefix, algorithm, rate):
    other = make_either(url, prefix=prefix).limiter("api", rate, algorithm=algorithm)
    limiter = either.limiter("api", rate, algorithm=algorithm)
    assert await limiter.clear_rates("ada") is False
    await other.hit("ada", 3)
    await remembered(other, "ada")
    await limiter.set_rates("ada", Rate(5, LONG), "1h")
    assert await other.rates("ada") == (Rate(5, LONG),)
    verdict = await passes(other, "ada")
    assert (verdict.limit, verdict.rate, verdict.remaining) == (5, Rate(5, LONG), 1)
    assert await limiter.clear_rates("ada") is True
    assert await other.rates("ada") == (rate,)
    assert not (await other.hit("ada")).allowed


async def test_own_rates_end_by_themselves(either, make_either, url, prefix, algorithm, rate):
    other = make_either(url, prefix=prefix).limiter("api", rate, algorithm=algorithm)
    limiter = either.limiter("api", rate, algorithm=algorithm)
    await limiter.hit("ada")
    await limiter.set_rates("ada", Rate(1, LONG), "400ms")
    assert (await remembered(other, "ada")).limit == 1
    verdict = await passes(other, "ada")
    assert (verdict.limit, verdict.remaining) == (3, 1)
    assert await other.rates("ada") == (rate,)


async def test_what_a_lost_connection_tracked_is_forgotten(either, other, rate):
    limiter = either.limiter("api", rate)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    await other.execute("CLIENT", "KILL", "TYPE", "normal")
    await forgets(limiter)
    await other.limiter("api", rate).reset("ada")
    await asyncio.sleep(0.02)  # a pooled socket that was in use a moment ago is not looked at before it is used
    assert (await passes(limiter, "ada")).remaining == 2
    await limiter.hit("ada", 2)
    assert (await remembered(limiter, "ada")).remaining == 0


async def test_what_is_remembered_is_not_read_again_for_a_hit_that_was_under_way(either, rate):
    limiter = either.limiter("api", rate)
    await limiter.hit("ada", 3)
    await remembered(limiter, "ada")
    policy = core_of(limiter).policy
    policy.remember(Question(policy, "ada", (rate,), 1))  # as such a hit does when it learns that it was refused
    assert not refusals_of(limiter)._reading
    policy.remember(Question(policy, "ada", (Rate(2, LONG),), 1))  # other rates stand for themselves
    await until(lambda: refusals_of(limiter).held["ada"].asked == (Rate(2, LONG),))


async def test_memory_is_bounded(either, rate):
    limiter = either.limiter("api", rate, remember=3)
    refusals = refusals_of(limiter)
    for number in range(10):
        await limiter.hit(number, 3)
        await remembered(limiter, number)
    assert list(refusals.held) == ["7", "8", "9"]
    assert (len(refusals._names), len(refusals._keys), len(refusals._reading)) == (3, 6, 0)
    assert (await limiter.hit(0)).decided_by == "server"
    limiter = either.limiter("none", rate, remember=0)
    await limiter.hit("ada", 3)
    assert {(await limiter.hit("ada")).decided_by for _ in range(20)} == {"server"}


@pytest.mark.parametrize("colour", ["asyncio", "threads"])
async def test_over_a_client_of_ones_own_each_refusal_is_asked_for(url, prefix, rate, colour):
    client = Kind("redis", colour, protocol=3).client(url)
    bay = as_either(Kind("redis", colour).bay(client, prefix=prefix))
    limiter = bay.limiter("api", rate)
    await limiter.hit("ada", 3)
    assert {(await limiter.hit("ada")).decided_by for _ in range(20)} == {"server"}
    await bay.close()
    await ended(client)


THREADS = """
import os, sys
from forebay import Forebay
bay = Forebay(sys.argv[1], prefix=sys.argv[2]).connect()
limiter = bay.limiter("api", "3/day")
limiter.hit("ada", 3)
while limiter.hit("ada").decided_by != "memory": pass
hear, say = os.pipe()
child = os.fork()
if child == 0:
    first = limiter.hit("ada").decided_by
    while limiter.hit("ada").decided_by != "memory": pass
    os.write(say, b"x")
    while not limiter.hit("ada").allowed: pass
    os._exit(0 if first == "server" else 2)
os.read(hear, 1)
assert limiter.hit("ada").decided_by == "memory"
limiter.reset("ada")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
bay.close()
"""

ASYNCIO = """
import asyncio, os, sys
from forebay import AsyncForebay
bay = AsyncForebay(sys.argv[1], prefix=sys.argv[2])
limiter = bay.limiter("api", "3/day")
async def remembered():
    while (await limiter.hit("ada")).decided_by != "memory": await asyncio.sleep(0)
async def parent():
    await limiter.hit("ada", 3)
    await remembered()
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio._set_running_loop(None)
            async def work():
                first = (await limiter.hit("ada")).decided_by
                await remembered()
                os.write(say, b"x")
                while not (await limiter.hit("ada")).allowed: await asyncio.sleep(0)
                await bay.close()
                return first == "server"
            code = 0 if asyncio.new_event_loop().run_until_complete(work()) else 2
        finally:
            os._exit(code)
    await asyncio.to_thread(os.read, hear, 1)
    assert (await limiter.hit("ada")).decided_by == "memory"
    await limiter.reset("ada")
    print(os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]))
    await bay.close()
asyncio.run(parent())
"""


@pytest.mark.parametrize("program", [THREADS, ASYNCIO], ids=["threads", "asyncio"])
def test_a_forked_child_remembers_for_itself(program, url, prefix):
    done = subprocess.run([sys.executable, "-c", program, url, prefix], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "0\n", done.stdout + done.stderr


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_reset_while_the_state_is_read_is_not_lost(either, other, rate, side):
    hold = held_reading(either, side)
    limiter = either.limiter("api", rate)
    await limiter.hit("ada", 3)
    assert not (await limiter.hit("ada")).allowed
    await hold.reached()
    await other.limiter("api", rate).reset("ada")
    await either.execute("PING")  # behind the push, where they share a connection
    hold.let_go()
    assert (await passes(limiter, "ada")).remaining == 2
    await until(lambda: not refusals_of(limiter)._reading)
    assert (await limiter.hit("ada", 2)).remaining == 0
    assert (await remembered(limiter, "ada")).remaining == 0


def held_reading(bay, side):
    """Hold the next reading of a refused key, before it is sent or when it was answered, on the connection that is told of changes."""
    if not hasattr(bay, "wrapped"):
        return Gate(bay, awaits=True, methods=("track",)).hold("versions", side)
    hold, open_stream = Hold(awaits=False), bay.wrapped.port.stream

    async def stream():
        opened = await open_stream()
        asked = opened.ask

        async def ask(packed):
            reads = len(packed) > 1
            if reads and side == "before":
                await hold.stand()
            replies = await asked(packed)
            if reads and side == "after":
                await hold.stand()
            return replies

        opened.ask = ask
        return opened

    bay.wrapped.port.stream = stream
    return hold
