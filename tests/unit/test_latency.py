"""Latencies against the plain list of everything that was timed: right to within a quarter, and of bounded size."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forebay.wire import latency
from forebay.wire.latency import Latencies, LatencyStats, name_in
from forebay.wire.resp import pack

UP_TO_A_MINUTE = st.floats(0, 60)
SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}


def stands_for(bound: float, seconds: float) -> bool:
    """Whether *bound* is what the histogram may say of *seconds*: never less, and a quarter or a microsecond more."""
    return seconds < bound + 1e-9 and bound <= max(seconds * 1.25, seconds + 1e-6) + 1e-9


def check(stats: LatencyStats, timed: list[float]) -> None:
    ordered = sorted(timed)
    assert stats.count == len(ordered)
    for name, share in SHARES.items():
        exact = next(seconds for place, seconds in enumerate(ordered, 1) if place >= share * len(ordered))
        assert stands_for(getattr(stats, name), exact), (name, getattr(stats, name), exact)


class Histograms(RuleBasedStateMachine):
    """Commands are timed in any order; the model keeps every single time."""

    def __init__(self) -> None:
        super().__init__()
        self.latencies = Latencies()
        self.timed: dict[str, list[float]] = {}

    @rule(name=st.sampled_from(["GET", "SET", "DEL"]), times=st.lists(UP_TO_A_MINUTE, min_size=1, max_size=30))
    def record(self, name: str, times: list[float]) -> None:
        for seconds in times:
            self.latencies.record(name, seconds)
            self.timed.setdefault(name, []).append(seconds)

    @invariant()
    def tells_what_was_timed(self) -> None:
        stats = self.latencies.stats()
        assert list(stats) == sorted(self.timed)
        for name, times in self.timed.items():
            check(stats[name], times)


TestHistograms = Histograms.TestCase


@given(seconds=UP_TO_A_MINUTE)
def test_one_time_is_every_percentile(seconds):
    latencies = Latencies()
    latencies.record("GET", seconds)
    stats = latencies.stats()["GET"]
    assert stats.p50 == stats.p99 == stats.p999 == stats.max
    assert stands_for(stats.max, seconds)


def test_every_microsecond_falls_into_the_bucket_that_bounds_it():
    borders = [number for power in range(26) for number in (2**power - 1, 2**power, 2**power + 1, 3 * 2**power)]
    for microseconds in sorted({*range(5000), *(number for number in borders if number < 60_000_000)}):
        bucket = latency._bucket(microseconds)
        assert latency._upper_bound(bucket) * 1e6 > microseconds
        assert bucket == 0 or round(latency._upper_bound(bucket - 1) * 1e6) <= microseconds, "the bucket below would have been too small"


def test_what_takes_for_ever_and_a_clock_that_went_back_are_counted_too():
    latencies = Latencies()
    for seconds in (-1.0, 0.0, 3600.0, 1e9):
        latencies.record("GET", seconds)
    stats = latencies.stats()["GET"]
    assert stats.count == 4
    assert 60 < stats.max < math.inf


def test_names_without_end_are_counted_together():
    latencies = Latencies()
    for number in range(1000):
        latencies.record(f"NAME{number}", 0.001)
    latencies.record("NAME0", 0.001)
    stats = latencies.stats()
    assert len(stats) == latency._MOST_COMMANDS + 1
    assert stats["OTHER"].count == 1000 - latency._MOST_COMMANDS
    assert stats["NAME0"].count == 2
    assert sum(one.count for one in stats.values()) == 1001


@given(name=st.from_regex(r"[A-Za-z.]{1,20}", fullmatch=True), args=st.lists(st.binary(max_size=30), max_size=20))
def test_the_name_is_read_from_the_packed_command(name, args):
    assert name_in(pack((name, *args))) == name.upper()
    assert name_in(pack((name.encode(), *args))) == name.upper()


@given(name=st.one_of(st.binary(max_size=60), st.text(max_size=60, alphabet=st.characters(codec="utf-8"))))
def test_the_name_of_what_is_no_command_holds_no_argument(name):
    whole = (name if isinstance(name, bytes) else name.encode()).decode("ascii", "replace").upper()
    assert whole.startswith(name_in(pack((name, "argument"))))
