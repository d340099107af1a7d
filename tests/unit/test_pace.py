"""A pace is even, and held by all who share it: on a clock under the test's hand."""

import threading

import pytest

from forebay.cache.pace import Pace


def test_turns_are_evenly_spread_and_time_that_passed_unused_is_not_made_up_for():
    now = [100.0]
    pace = Pace(4, lambda: now[0])
    assert [pace.turn() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    now[0] += 0.5
    assert pace.turn() == 0.5
    now[0] += 60
    assert [pace.turn() for _ in range(3)] == [0.0, 0.25, 0.5], "no burst after a pause"


def test_several_turns_at_once():
    now = [0.0]
    pace = Pace(10, lambda: now[0])
    assert pace.turn(5) == 0.0
    assert pace.turn(1) == 0.5
    assert pace.turn(0) == pytest.approx(0.6)
    assert pace.turn() == pytest.approx(0.6)


def test_without_a_rate_nobody_waits():
    pace = Pace(None, lambda: pytest.fail("asked for the time"))
    assert pace.turn(1000) == pace.turn() == 0.0


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match="rate=.*cannot be kept"):
        Pace(rate)


def test_threads_share_the_turns():
    pace = Pace(1000, lambda: 0.0)
    turns: list[float] = []

    def take():
        for _ in range(500):
            turns.append(pace.turn())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == pytest.approx([number / 1000 for number in range(2000)])
