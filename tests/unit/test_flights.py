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


def test_one_leads_and_the_others_join(flights):
    flight, leads = flights.board("k", None)
    other, follows = flights.board("k", None)
    assert (leads, follows) == (True, False)
    assert other is flight
    assert flight.waiting == 2
    assert flights.board("k", int)[1]
    assert flights.board("l", None)[1]
    assert len(flights) == 3


def test_a_landed_flight_takes_nobody_aboard_and_is_remembered(flights):
    before = flights.mark()
    flight, _ = flights.board("k", None)
    flights.land(flight, well=True)
    assert len(flights) == 0
    assert flights.board("k", None)[1]
    assert flights.landed_since("k", before)
    assert not flights.landed_since("k", flights.mark())
    assert not flights.landed_since("other", before)


def test_a_failed_flight_is_not_worth_a_second_look(flights):
    before = flights.mark()
    flight, _ = flights.board("k", None)
    flights.land(flight, well=False)
    assert not flights.landed_since("k", before)


@pytest.mark.parametrize("void", [lambda flights: flights.void(["k"]), lambda flights: flights.void_under("k")])
def test_a_void_flight_takes_nobody_aboard(flights, void):
    flight, _ = flights.board("k", None)
    other, _ = flights.board("other", None)
    void(flights)
    assert flight.void
    assert not other.void
    again, leads = flights.board("k", None)
    assert leads
    flights.land(flight, well=True)
    assert flights.board("k", None) == (again, False)


@pytest.mark.parametrize("void", [False, True])
def test_a_load_ends_when_the_last_one_leaves_and_not_before(flights, void):
    cancelled = []
    flight, _ = flights.board("k", None)
    flight.cancel = lambda: cancelled.append(True)
    flights.board("k", None)
    if void:
        flights.void(["k"])
    flights.leave(flight)
    assert not cancelled
    flights.leave(flight)
    assert cancelled == [True]
    assert len(flights) == 0


def test_leaving_after_the_landing_cancels_nothing(flights):
    flight, _ = flights.board("k", None)
    flight.cancel = lambda: pytest.fail("cancelled")
    flights.land(flight, well=True)
    flights.leave(flight)
    assert flight.waiting == 0


def test_what_is_remembered_of_landings_is_bounded(flights):
    for number in range(5000):
        flights.land(flights.board(f"k{number}", None)[0], well=True)
    assert len(flights._landed) == 4096
    assert flights.landed_since("k4999", 0)


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
