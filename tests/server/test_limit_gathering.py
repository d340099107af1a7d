"""Hits that leave together: each gets its own answer, whatever happens to the call, and nobody waits for ever."""

import asyncio
import threading

import pytest

from forebay import AsyncForebay, Forebay, InvalidCommand
from forebay.wire.combiner import Combiner
from forebay.wire.gatherable import Gatherable
from forebay.wire.gathering import Gathering
from tests.server.test_limits import core_of, names_of
from tests.server.test_near import until


async def test_of_all_who_find_the_script_lost_one_sends_it(bay):
    limiter = bay.limiter("api", "1000000/day")
    await limiter.hit("first")
    await bay.execute("SCRIPT", "FLUSH")
    before = bay.stats().wire.bytes_sent
    verdicts = await asyncio.gather(*(limiter.hit(f"k{number}") for number in range(500)))
    assert {verdict.decided_by for verdict in verdicts} == {"server"}
    assert {verdict.remaining for verdict in verdicts} == {999_999}, "nobody was charged twice"
    source = len(core_of(limiter).policy.names.of("x")[0]) + 20_000
    assert bay.stats().wire.bytes_sent - before < 500 * 400 + 2 * source


def test_threads_that_find_the_script_lost_are_all_answered(sync_bay):
    limiter, found = sync_bay.limiter("api", "1000000/day"), []
    limiter.hit("first")
    sync_bay.execute("SCRIPT", "FLUSH")
    threads = [threading.Thread(target=lambda n=n: found.append(limiter.hit(f"k{n}"))) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(verdict.decided_by, verdict.remaining) for verdict in found] == [("server", 999_999)] * 32


async def test_replies_are_each_callers_own_over_many_keys_costs_and_limiters(bay):
    one, two = bay.limiter("one", "1000000/day"), bay.limiter("two", "1000/hour, 5000/day")
    asked = [(limiter, f"k{number}", 1 + number % 3) for number in range(60) for limiter in (one, two)]
    tasks = [asyncio.ensure_future(limiter.hit(key, cost)) for limiter, key, cost in asked]
    await asyncio.sleep(0)
    for task in tasks[::7]:
        task.cancel()
    verdicts = await asyncio.gather(*tasks, return_exceptions=True)
    for (limiter, _, cost), verdict, place in zip(asked, verdicts, range(len(asked)), strict=True):
        if place % 7 == 0:
            assert isinstance(verdict, asyncio.CancelledError)
        else:
            assert (verdict.policy, verdict.remaining) == (limiter.name, verdict.limit - cost)


async def test_calls_with_many_keys_are_split(bay):
    limiter = bay.limiter("api", "1/day")
    keys = [f"k{number}" for number in range(300)]
    decisions = await asyncio.gather(*(bay.hit_all([(limiter, key) for key in keys]) for _ in range(16)))
    assert sum(decision.allowed for decision in decisions) == 1
    assert {verdict.decided_by for decision in decisions for verdict in decision.verdicts} <= {"server", "memory"}
    with pytest.raises(InvalidCommand, match="at most 500"):
        await bay.hit_all([(limiter, f"n{number}") for number in range(501)])


async def test_what_is_in_flight_is_bounded_however_different_the_calls(url, prefix):
    async with AsyncForebay(f"{url}?max_in_flight=10", prefix=prefix) as bay:
        limiter = bay.limiter("api", "1000000/day")
        await limiter.hit("first")
        hits = [asyncio.ensure_future(limiter.hit("ada", cost)) for cost in range(1, 101)]
        await asyncio.sleep(0)
        assert bay.stats().wire.in_flight <= 11
        assert all(verdict.decided_by == "server" for verdict in await asyncio.gather(*hits))
        assert (await limiter.peek("ada")).remaining == 1_000_000 - 5050


def test_a_bay_on_several_loops_leases_and_waits_on_each(url, prefix):
    bay, done = AsyncForebay(url, prefix=prefix), []
    hot, slow = bay.limiter("hot", "1000000/second", lease=2), bay.limiter("slow", "40/second burst 1")

    async def work():
        for _ in range(200):
            await hot.hit("everybody")
        for _ in range(3):
            await slow.acquire("everybody")
        done.append(threading.current_thread())

    threads = [threading.Thread(target=asyncio.run, args=(work(),), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 4, "a loop waited for what another one was to tell it"


async def test_what_cannot_be_read_is_not_remembered_and_disturbs_nothing(either):
    logged, plain = either.limiter("log", "1/day", algorithm="sliding_log"), either.limiter("plain", "1/day")
    await logged.hit("ada")
    await either.execute("ZADD", names_of(logged, "ada")[0], 1, "junk")
    assert not (await logged.hit("ada")).allowed
    await plain.hit("bob")
    await plain.hit("bob")

    async def remembered():
        return (await plain.hit("bob")).decided_by == "memory"

    await until(remembered)
    await either.execute("UNLINK", names_of(logged, "ada")[0])


async def test_a_key_that_cannot_be_decided_lets_the_others_be_charged(either):
    broken, sound = either.limiter("broken", "5/day", algorithm="sliding_log"), either.limiter("sound", "3/day")
    await either.execute("SET", names_of(broken, "ada")[0], "text", "PX", 60_000)
    pairs = [(getattr(limiter, "wrapped", limiter), "ada") for limiter in (broken, sound)]
    decisions = [await either.hit_all(pairs) for _ in range(4)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False]
    assert (await sound.peek("ada")).remaining == 0
    assert either.stats().limits["sound"].allowed == 3


def test_a_slots_block_keeps_its_own_exception_when_the_bay_goes_first(url, prefix):
    bay = Forebay(url, prefix=prefix).connect()
    with pytest.raises(ValueError, match="mine"), bay.limiter("db", concurrency=1, slot_lease="1s").slot("ada"):
        bay.close()
        raise ValueError("mine")


def test_a_turn_that_was_lost_is_found():
    """A signal's exception between taking a turn and beginning: later calls of that thread, and of others, are served."""
    combiner = Combiner(lambda command: command, lambda commands: commands, 1, 0.05)
    assert combiner._take_turn()  # and was interrupted
    assert combiner.call(b"mine") == b"mine", "the thread that has it goes on"
    other = threading.Thread(target=combiner._take_turn)
    other.start()
    other.join()  # it ended with the turn
    with pytest.raises(Exception, match="every connection was busy"):
        combiner.call(b"too late")
    assert combiner.call(b"again") == b"again"


async def test_a_reply_of_another_length_fails_all_who_wait():
    gathering, loop = Gathering(), asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(2)]
    script = Gatherable("Evalsha", "0" * 40)
    for future in futures:
        assert gathering.add(script, future, b"$1\r\nk\r\n", 1, b"", 0) is None
    [gathered] = gathering.drain()
    gathered.set_result([1])
    for future in futures:
        with pytest.raises(Exception, match="another number of records"):
            await future
    assert gathered.done()
