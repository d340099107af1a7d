"""Waiting for room, and slots: first come, first served; at most so many at once; and nobody who leaves or dies keeps what was theirs."""

import asyncio
import inspect
import threading
import time
from contextlib import asynccontextmanager

import pytest

from forebay import Forebay, InvalidCost, Rate, RateLimited, UsageError
from tests.calling import finished, start
from tests.races.gate import Gate
from tests.server.test_limits import LONG, core_of
from tests.server.test_near import until


@asynccontextmanager
async def slot(limiter, key="ada", timeout=None):
    """``limiter.slot(key)`` around a block, in the limiter's colour; on threads it never suspends."""
    made = getattr(limiter, "wrapped", limiter).slot(key, timeout)
    if hasattr(made, "__aenter__"):
        async with made as held:
            yield held
    else:
        with made as held:
            yield held


async def free(limiter, key="ada"):
    return (await core_of(limiter).slots.look(key))[1]


def in_line(limiter):
    return sum(map(len, core_of(limiter)._line._lines.values()))


def pause(bay, seconds):
    """Pause who works for *bay*, and nobody else."""
    return bay.wrapped.port.waiting.sleep(seconds) if hasattr(bay, "wrapped") else asyncio.sleep(seconds)


async def standing(either, limiter, count, work):
    """Begin so many calls one after the other, each once the one before stands in line."""
    calls = []
    for number in range(count):
        calls.append(start(either, work(number)))
        await until(lambda number=number: in_line(limiter) == number + 1)
    return calls


async def test_who_comes_first_is_served_first(either):
    limiter, order, began = either.limiter("api", Rate(1, "100ms")), [], time.monotonic()
    await limiter.hit("ada")

    async def work(number):
        verdict = await limiter.acquire("ada")
        order.append(number)
        return verdict.allowed

    assert await finished(*await standing(either, limiter, 5, work)) == [True] * 5
    assert order == [0, 1, 2, 3, 4]
    assert time.monotonic() - began >= 0.5
    assert in_line(limiter) == 0


async def test_nobody_waits_for_what_comes_too_late(either):
    limiter = either.limiter("api", Rate(2, LONG))
    await limiter.hit("ada", 2)
    began = time.monotonic()
    with pytest.raises(RateLimited, match="api") as caught:
        await limiter.acquire("ada", "60s")
    assert time.monotonic() - began < 5
    verdict = caught.value.verdict
    assert (verdict.allowed, verdict.remaining, verdict.limit) == (False, 0, 2)
    assert verdict.retry_after > 60


async def test_who_is_not_reached_in_time_leaves_the_line_uncharged(either):
    limiter = either.limiter("api", Rate(1, "600ms"))
    await limiter.hit("ada")
    (first,) = await standing(either, limiter, 1, lambda _: limiter.acquire("ada"))
    with pytest.raises(RateLimited) as caught:
        await limiter.acquire("ada", "50ms")
    assert not caught.value.verdict.allowed
    assert 0 < caught.value.verdict.retry_after <= 0.6
    assert (await first).allowed
    assert in_line(limiter) == 0
    assert either.stats().limits["api"].allowed == 2


async def test_all_of_the_room_is_given_away_once(either):
    limiter = either.limiter("api", Rate(20, LONG))
    calls = [start(either, limiter.acquire("ada", "2s", cost=2)) for _ in range(15)]
    results = await finished(*calls)
    assert sum(isinstance(result, RateLimited) for result in results) == 5
    assert sorted(result.remaining for result in results if not isinstance(result, RateLimited)) == list(range(0, 20, 2))
    assert in_line(limiter) == 0
    with pytest.raises(InvalidCost):
        await limiter.acquire("ada", 1, cost=21)
    assert in_line(limiter) == 0


async def test_a_reset_lets_those_in_who_wait(either, url, prefix):
    limiter = either.limiter("api", Rate(1, LONG))
    await limiter.hit("ada")
    (call,) = await standing(either, limiter, 1, lambda _: limiter.acquire("ada"))
    with Forebay(url, prefix=prefix) as other:
        other.limiter("api", Rate(1, LONG)).reset("ada")
    assert (await call).allowed


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_who_is_cancelled_passes_the_turn_on(bay, who):
    limiter = bay.limiter("api", Rate(1, "150ms"))
    await limiter.hit("ada")
    calls = await standing(bay, limiter, 4, lambda _: limiter.acquire("ada"))
    calls[who].cancel()
    results = await finished(*calls)
    assert isinstance(results.pop(who), asyncio.CancelledError)
    assert all(result.allowed for result in results)
    assert bay.stats().limits["api"].allowed == 4
    assert in_line(limiter) == 0


async def test_a_limited_function_is_itself_with_a_limit_before_it(bay):
    limiter = bay.limiter("api", Rate(2, LONG))

    @limiter.limited(lambda user, *, more=0: f"user:{user}", cost=1)
    async def mail(user: int, *, more: int = 0) -> str:
        """Send it."""
        if more > 1:
            raise KeyError(more)
        return f"{user} {more}"

    assert (mail.__name__, mail.__doc__, list(inspect.signature(mail).parameters)) == ("mail", "Send it.", ["user", "more"])
    assert inspect.iscoroutinefunction(mail)
    assert await mail(1, more=1) == "1 1"
    with pytest.raises(KeyError):
        await mail(1, more=2)
    with pytest.raises(RateLimited) as caught:
        await mail(1)
    assert (caught.value.verdict.policy, caught.value.verdict.remaining) == ("api", 0)
    assert await mail(2) == "2 0"
    async with limiter.limited("block", cost=2) as verdict:
        assert verdict.remaining == 0
    with pytest.raises(RateLimited):
        async with limiter.limited("block"):
            pytest.fail("entered")
    quick, began = bay.limiter("quick", Rate(1, "100ms")), time.monotonic()
    for _ in range(3):
        async with quick.limited("ada", timeout="5s"):
            pass
    assert time.monotonic() - began >= 0.2


def test_a_limited_function_of_threads_is_itself_too(sync_bay):
    limiter = sync_bay.limiter("api", Rate(2, LONG))

    class Mailer:
        @limiter.limited(lambda self, user: user)
        def mail(self, user):
            return user

    assert [Mailer().mail(1), Mailer().mail(1)] == [1, 1]
    with pytest.raises(RateLimited):
        Mailer().mail(1)
    with pytest.raises(ZeroDivisionError), limiter.limited("block", cost=2) as verdict:
        assert verdict.remaining == 1 / 0
    with pytest.raises(RateLimited), limiter.limited("block"):
        pytest.fail("entered")


def test_what_cannot_be_limited_is_refused_where_it_is_written(bay, sync_bay):
    async def coroutine(): ...
    def function(): ...
    def generator():
        yield

    async def asynchronous():
        yield

    ours, theirs = bay.limiter("a", "1/s").limited("k"), sync_bay.limiter("a", "1/s").limited("k")
    both = [(each, wrong) for each in (ours, theirs) for wrong in (generator, asynchronous, 5)]
    for limit, wrong in ((ours, function), (theirs, coroutine), *both):
        with pytest.raises(TypeError):
            limit(wrong)
    with pytest.raises(TypeError, match="block"), sync_bay.limiter("a", "1/s").limited(lambda: "k"):
        pytest.fail("entered")


async def test_at_most_so_many_hold_a_slot_at_once_in_two_bays(make_either, url, prefix):
    either, other = [await make_either(url, prefix=prefix).connect() for _ in range(2)]
    limiters = [bay.limiter("db", concurrency=3) for bay in (either, other)]
    guard, inside, seen = threading.Lock(), set(), []

    async def work(number):
        for _ in range(3):
            async with slot(limiters[number % 2]) as held:
                with guard:
                    inside.add(number)
                    seen.append(len(inside))
                assert not held.lost
                await pause(either, 0.003)
                with guard:
                    inside.discard(number)

    assert await finished(*(start(either, work(number)) for number in range(32))) == [None] * 32
    assert (max(seen), len(seen)) == (3, 96)
    assert await free(limiters[0]) == 3
    assert either.stats().reported == {}


async def test_a_slot_goes_back_whatever_happens_in_the_block(either):
    limiter = either.limiter("db", concurrency=1)
    with pytest.raises(KeyError):
        async with slot(limiter):
            assert await free(limiter) == 0
            raise KeyError
    assert await free(limiter) == 1
    async with slot(limiter):
        with pytest.raises(RateLimited, match="1 slots") as caught:
            async with slot(limiter, timeout="30ms"):
                pytest.fail("entered")
        assert caught.value.verdict is None
        async with slot(limiter, "bob"):
            assert await free(limiter, "bob") == 0
    made = getattr(limiter, "wrapped", limiter).slot("ada")
    assert not hasattr(made, "lost")
    for _ in range(3):
        async with slot(limiter) as held:
            assert held.remaining == 0
    with pytest.raises(UsageError, match="no slots"):
        async with slot(either.limiter("api", "1/s")):
            pytest.fail("entered")
    async with slot(either.limiter("db", concurrency=1, exempt={"root"}), "root"):
        assert await free(limiter, "root") == 1


async def test_a_waiter_is_woken_and_does_not_ask_again_and_again(either):
    limiter, took = either.limiter("db", concurrency=1), []
    for _ in range(5):
        async with slot(limiter):
            waiting = start(either, entered(limiter))
            await asyncio.sleep(0.15)  # it waits by now, and for 30 s if nobody tells it
            given = time.monotonic()
        took.append(await waiting - given)
    assert sorted(took)[2] < 0.1, took


async def entered(limiter):
    async with slot(limiter):
        return time.monotonic()


@pytest.mark.parametrize("step", ["take", "wait", "hold"])
async def test_who_is_cancelled_keeps_no_slot(bay, step):
    gate = Gate(bay, awaits=True, methods=("execute",), step_of=lambda _, args: str(args[5]) if len(args) > 6 else "other")
    limiter = bay.limiter("db", concurrency=1)
    hold = gate.hold("take", "after") if step == "take" else None
    if step == "wait":
        first = limiter.slot("ada")
        await first.__aenter__()
    here = asyncio.Event()

    async def work():
        async with limiter.slot("ada"):
            here.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    if hold is not None:
        await hold.reached()
    elif step == "wait":
        await until(lambda: gate.passed["take", "after"] == 2)
    else:
        await here.wait()
    task.cancel()
    assert isinstance((await finished(task))[0], asyncio.CancelledError)
    if step == "wait":
        await first.__aexit__(None, None, None)
    await until(lambda: all_free(limiter))
    async with limiter.slot("ada", timeout="2s"):
        pass


async def all_free(limiter):
    return await free(limiter) == 1
