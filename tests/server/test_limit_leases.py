"""Leases: units charged ahead cost no round trip, and outlive neither their time nor a reset; a slot lives as long as its holder."""

import asyncio
import subprocess
import sys
import time

import pytest

from forebay import Rate, RateLimited, SlotLost
from tests.calling import finished, start
from tests.proxy import Cut, Delay, Drop, proxy_to
from tests.races.gate import Gate
from tests.server.test_limit_waiting import all_free, free, slot
from tests.server.test_limits import LONG, core_of
from tests.server.test_near import calls, until

# units


async def scripts(bay):
    return (await calls(bay)).get("evalsha", 0)


async def test_most_hits_cost_no_round_trip(either):
    limiter = either.limiter("api", Rate(1000, LONG), lease=50, lease_for="60s")
    await either.execute("CONFIG", "RESETSTAT")
    verdicts = [await limiter.hit("ada") for _ in range(500)]
    assert all(verdict.allowed for verdict in verdicts)
    assert {verdict.decided_by for verdict in verdicts} == {"lease"}
    assert [verdict.remaining for verdict in verdicts] == list(range(999, 499, -1))
    assert await scripts(either) <= 11
    assert (either.stats().limits["api"].leased, either.stats().limits["api"].allowed) == (500, 500)
    assert (await limiter.peek("ada")).remaining == 500


async def test_no_more_is_let_through_than_was_charged(make_either, url, prefix):
    """Two processes, in each many callers: what is charged is never used twice, and all of it can be used."""
    bays = [await make_either(url, prefix=prefix).connect() for _ in range(2)]
    limiters = [bay.limiter("api", Rate(1000, LONG), lease=30, lease_for="60s") for bay in bays]

    async def work(number):
        allowed = 0
        for _ in range(50):
            allowed += (await limiters[number % 2].hit("ada")).allowed
        return allowed

    assert sum(await finished(*(start(bays[0], work(number)) for number in range(32)))) == 1000
    assert not (await limiters[0].hit("ada")).allowed


async def test_callers_refill_once_at_a_time(either):
    limiter = either.limiter("api", Rate(10_000, LONG), lease=100, lease_for="60s")
    await either.execute("CONFIG", "RESETSTAT")
    verdicts = await finished(*(start(either, limiter.hit("ada")) for _ in range(32)))
    assert {verdict.decided_by for verdict in verdicts} == {"lease"}
    assert await scripts(either) <= 2
    assert (await limiter.peek("ada")).remaining == 9_900


async def test_who_is_cancelled_while_refilling_leaves_the_others_alone(bay):
    hold = Gate(bay, awaits=True, methods=("execute",)).hold("script", "before")
    limiter = bay.limiter("api", Rate(100, LONG), lease=10, lease_for="60s")
    tasks = [asyncio.ensure_future(limiter.hit("ada")) for _ in range(4)]
    await hold.reached()
    tasks[0].cancel()
    results = await finished(*tasks)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(verdict.allowed for verdict in results[1:])


async def test_unused_units_end_with_their_time(either):
    limiter = either.limiter("api", Rate(100, LONG), lease=10, lease_for="100ms")
    assert (await limiter.hit("ada")).remaining == 99
    assert (await limiter.peek("ada")).remaining == 90
    await asyncio.sleep(0.15)
    assert (await limiter.hit("ada")).remaining == 89
    assert (await limiter.peek("ada")).remaining == 80


async def test_a_reset_and_own_rates_take_effect_on_what_is_held(either):
    limiter = either.limiter("api", Rate(100, LONG), lease=10, lease_for="60s")
    await limiter.hit("ada", 5)
    assert await limiter.reset("ada")
    assert (await limiter.hit("ada")).remaining == 99
    await limiter.set_rates("ada", Rate(11, LONG), "1h")
    verdict = await limiter.hit("ada")
    assert (verdict.allowed, verdict.limit, verdict.remaining) == (True, 11, 0)
    assert not (await limiter.hit("ada")).allowed
    await limiter.set_rates("bob", Rate(3, LONG), "1h")  # less than a lease: each is asked for
    assert [(await limiter.hit("bob")).allowed for _ in range(4)] == [True, True, True, False]


async def test_own_rates_that_another_process_sets_hold_after_the_lease(make_either, url, prefix):
    one, other = [
        (await make_either(url, prefix=prefix).connect()).limiter("api", Rate(100, LONG), lease=10, lease_for="300ms") for _ in "ab"
    ]
    await one.hit("ada")
    await other.set_rates("ada", Rate(5, LONG), "1h")
    await until(lambda: refused(one))


async def refused(limiter):
    return not (await limiter.hit("ada")).allowed


async def test_what_is_left_below_a_lease_is_asked_for_one_by_one(either):
    limiter = either.limiter("api", Rate(25, LONG), lease=10, lease_for="60s")
    found = [(await limiter.hit("ada")) for _ in range(27)]
    assert [verdict.allowed for verdict in found] == [True] * 25 + [False] * 2
    assert [verdict.decided_by for verdict in found[:25]] == ["lease"] * 20 + ["server"] * 5
    stats = either.stats().limits["api"]
    assert (stats.allowed, stats.refused, stats.leased) == (25, 2, 20)


async def test_a_cost_above_the_lease_is_asked_for_by_itself(either):
    limiter = either.limiter("api", Rate(100, LONG), lease=10, lease_for="60s")
    verdict = await limiter.hit("ada", 11)
    assert (verdict.decided_by, verdict.remaining) == ("server", 89)
    assert (await limiter.hit("ada", 10)).decided_by == "lease"
    assert (await limiter.peek("ada")).remaining == 79


async def test_in_shadow_a_lease_refuses_nobody(either):
    limiter = either.limiter("api", Rate(20, LONG), lease=10, lease_for="60s", shadow=True)
    verdicts = [await limiter.hit("ada") for _ in range(30)]
    assert all(verdict.allowed for verdict in verdicts)
    assert [verdict.shadowed for verdict in verdicts] == [False] * 20 + [True] * 10
    assert either.stats().limits["api"].shadowed == 10


# slots


async def test_a_slot_is_held_longer_than_its_lease_while_its_holder_lives(either):
    limiter = either.limiter("db", concurrency=1, slot_lease="300ms")
    async with slot(limiter) as held:
        limit = time.monotonic() + 1.2
        while time.monotonic() < limit:
            assert await free(limiter) == 0
            await asyncio.sleep(0.02)
        assert not held.lost
    assert await free(limiter) == 1


async def test_taken_slots_are_never_remembered(either):
    slots = core_of(either.limiter("api", concurrency=1)).slots
    held = await slots.take("ada", 1.0, is_open=True)
    await either.execute("CONFIG", "RESETSTAT")
    for _ in range(5):
        with pytest.raises(RateLimited):
            await slots.take("ada", 0.0, is_open=True)
    assert (await calls(either))["evalsha"] == 5
    await slots.give(held)
    await slots.give(await slots.take("ada", 0.0, is_open=True))


HOLDER = """
import sys, time
from forebay import Forebay
bay = Forebay(sys.argv[1], prefix=sys.argv[2]).connect()
with bay.limiter("db", concurrency=1, slot_lease="500ms").slot("ada"):
    print("held", flush=True)
    time.sleep(60)
"""


async def test_the_slot_of_a_holder_that_dies_comes_free(either, url, prefix):
    limiter = either.limiter("db", concurrency=1, slot_lease="500ms")
    holder = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", HOLDER, url, prefix], stdout=subprocess.PIPE)
    assert await asyncio.to_thread(holder.stdout.readline) == b"held\n"
    with pytest.raises(RateLimited):
        async with slot(limiter, timeout="50ms"):
            pytest.fail("entered")
    holder.kill()
    await asyncio.to_thread(holder.wait)
    holder.stdout.close()
    began = time.monotonic()
    async with slot(limiter, timeout="5s"):
        assert time.monotonic() - began < 1.5


async def test_a_slot_that_others_have_is_reported_as_lost(make_either, url, prefix):
    events = []
    bay = await make_either(url, prefix=prefix, on_event=events.append).connect()
    limiter, slots = bay.limiter("db", concurrency=1, slot_lease="300ms"), None
    async with slot(limiter) as held:
        await bay.execute("DEL", held.names[0])
        slots = core_of(bay.limiter("db", concurrency=1)).slots
        thief = await slots.take("ada", 1.0, is_open=False)
        await until(lambda: held.lost)
        assert [(type(event), event.policy, event.key) for event in events] == [(SlotLost, "db", "ada")]
        await slots.give(thief)
        await until(lambda: not held.lost)
        assert await free(limiter) == 0
    assert await free(limiter) == 1
    assert bay.stats().reported == {"SlotLost": 1}


FORK = """
import os, sys
from forebay import Forebay
from forebay.colours import complete
bay = Forebay(sys.argv[1], prefix=sys.argv[2]).connect()
limiter = bay.limiter("db", concurrency=2, slot_lease="600ms")
with limiter.slot("ada") as held:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with limiter.slot("ada"): pass
            complete(limiter._core.slots.give(held))
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(complete(limiter._core.slots.look("ada"))[1], held.lost)
print(complete(limiter._core.slots.look("ada"))[1])
bay.close()
"""


def test_a_forked_child_gives_nothing_back(url, prefix):
    done = subprocess.run([sys.executable, "-c", FORK, url, prefix], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "0\n1 False\n2\n", done.stdout + done.stderr


async def test_two_deploys_with_other_numbers_and_leases_get_on(either):
    old = core_of(either.limiter("db", concurrency=2, slot_lease="60s")).slots
    new = core_of(either.limiter("db", concurrency=3, slot_lease="300ms")).slots
    held = [await old.take("ada", 1.0, is_open=False) for _ in range(2)]
    third = await new.take("ada", 1.0, is_open=False)
    for slots in (old, new):
        with pytest.raises(RateLimited):
            await slots.take("ada", 0.0, is_open=False)
    await asyncio.sleep(0.5)
    assert (await new.look("ada"), third.lost) == ((3, 0), False)
    await old.give(held[0])
    with pytest.raises(RateLimited):
        await old.take("ada", 0.0, is_open=False)
    await new.give(await new.take("ada", 0.0, is_open=False))
    for each, slots in ((held[1], old), (third, new)):
        await slots.give(each)
    assert (await old.look("ada"), await new.look("ada")) == ((2, 2), (3, 3))


async def test_a_renewal_that_is_late_does_not_take_back_what_was_given(either):
    bay = getattr(either, "wrapped", either)
    gate = Gate(bay, awaits=bay is either, methods=("execute",), step_of=lambda _, args: str(args[5]) if len(args) > 6 else "other")
    limiter = either.limiter("db", concurrency=1, slot_lease="3s")
    hold = gate.hold("renew", "before")
    async with slot(limiter):
        await hold.reached()
    hold.let_go()
    await until(lambda: gate.passed["renew", "after"])
    await until(lambda: all_free(limiter), 1.0)


@pytest.mark.parametrize("fault", [Cut(after=1, every=2), Drop(to_client=True), Cut(after=1)], ids=["one cut", "lost", "all cut"])
async def test_no_slot_is_a_ghost_after_a_lost_reply(make_either, server, url, prefix, fault):
    direct = (await make_either(url, prefix=prefix).connect()).limiter("db", concurrency=1, slot_lease="60s")
    with proxy_to(server.address()) as proxy:
        bay = await make_either(proxy.url + "?limit_deadline=150ms", prefix=prefix).connect()
        limiter = bay.limiter("db", concurrency=1, slot_lease="60s")
        async with slot(limiter):
            pass
        for _ in range(3):
            proxy.fault = fault
            async with slot(limiter) as held:
                assert not held.lost
            assert proxy.struck
            proxy.heal()
            await until(lambda: all_free(direct))
            await until(lambda: served(limiter))


async def served(limiter):
    """Whether a slot is given by the server again, and not by what stands in for it."""
    async with slot(limiter, timeout="1s") as held:
        return bool(held.token)


@pytest.mark.parametrize("timeout", ["100ms", "150ms"])
async def test_who_waits_on_a_slow_way_is_not_let_in_without_a_slot(make_either, server, url, prefix, timeout):
    direct = core_of((await make_either(url, prefix=prefix).connect()).limiter("db", concurrency=1)).slots
    held = await direct.take("ada", 1.0, is_open=False)
    with proxy_to(server.address()) as proxy:
        bay = await make_either(proxy.url + "?cache_budget=30ms", prefix=prefix).connect()
        limiter = bay.limiter("db", concurrency=1)
        assert await free(limiter) == 0
        proxy.fault = Delay(to_client=0.06)
        with pytest.raises(RateLimited):
            async with slot(limiter, timeout=timeout):
                pytest.fail("entered")
    await direct.give(held)


async def test_in_shadow_nobody_waits_for_a_slot(either):
    limiter = either.limiter("db", concurrency=1, shadow=True)
    async with slot(limiter), slot(limiter, timeout="30ms"):
        assert await free(limiter) == 0
