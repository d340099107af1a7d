import asyncio
import threading

import pytest

from forebay.cache.flights import Flights
from forebay.port.aio import AioPromise
from forebay.port.blocking import BlockingPromise
from forebay.port.port import complete


@pytest.fixture
def flights():
    return Flights(BlockingPromise)


def test_one_leads_and_the_others_join_until_the_load_begins(flights):
    flight, leads, _ = flights.board("k", None)
    other, follows, late = flights.board("k", None)
    assert (leads, follows, late) == (True, False, False)
    assert other is flight
    assert flights.waiting == 2
    assert flights.board("k", int)[1]
    assert flights.board("l", None)[1]
    flights.show(flight, b"12345678")
    assert flights.board("k", None, b"12345678")[0] is flight
    another, leads, _ = flights.board("k", None)
    assert leads
    assert another is not flight
    assert another.after is None


def test_who_comes_after_a_read_was_sent_is_late_for_what_it_brings(flights):
    flight, _, _ = flights.board("k", None)
    flights.ask(flight)
    assert flights.board("k", None)[2]
    flights.show(flight, b"12345678")
    assert not flights.board("k", None, b"12345678")[2]


def test_without_a_lease_one_load_follows_another(flights):
    first, _, _ = flights.board("k", None)
    flights.show(first, b"")
    second, leads, _ = flights.board("k", None)
    assert leads
    assert second.after is first
    assert flights.board("k", None)[0] is second


def test_a_landed_flight_takes_nobody_aboard(flights):
    flight, _, _ = flights.board("k", None)
    flights.show(flight, b"12345678")
    flights.land(flight)
    assert flights.board("k", None, b"12345678")[1]


@pytest.mark.parametrize("shown", [False, True])
def test_a_load_ends_when_the_last_one_leaves_and_not_before(flights, shown):
    cancelled = []
    flight, _, _ = flights.board("k", None)
    flight.cancel = lambda: cancelled.append(True)
    flights.board("k", None)
    if shown:
        flights.show(flight, b"12345678")
    flights.leave(flight)
    assert not cancelled
    flights.leave(flight)
    assert cancelled == [True]
    assert len(flights) == 0


def test_leaving_after_the_landing_cancels_nothing(flights):
    flight, _, _ = flights.board("k", None)
    flight.cancel = lambda: pytest.fail("cancelled")
    flights.land(flight)
    flights.leave(flight)
    assert flight.waiting == 0


async def test_a_promise_survives_a_waiter_that_is_cancelled():
    promise = AioPromise()
    waiters = [asyncio.ensure_future(promise.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[1].cancel()
    await asyncio.wait([waiters[1]])
    promise.keep(7)
    assert [await waiters[0], await waiters[2], await promise.wait()] == [7, 7, 7]
    failed = AioPromise()
    failed.fail(KeyError("x"))
    with pytest.raises(KeyError):
        await failed.wait()


def test_threads_wait_for_a_promise():
    promise, got = BlockingPromise(), []
    threads = [threading.Thread(target=lambda: got.append(complete(promise.wait()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    promise.keep(b"v")
    for thread in threads:
        thread.join()
    assert got == [b"v"] * 4
