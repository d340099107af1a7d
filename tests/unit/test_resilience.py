"""What is repeated, after which pause, and when a node is left alone: the breaker against a plain model, with time in the test's hand."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forebay.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    OutcomeUnknown,
    Overloaded,
    Redirected,
    Refused,
    Unavailable,
)
from forebay.wire.resilience import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, OPEN_FOR, Breaker, may_repeat, pause_before

DRAWS = st.floats(0, 1, exclude_max=True)
CAUSE = ConnectFailed("refused")


class Clock:
    """Stands still until it is moved; its second hand is also what is drawn."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.drawn = 0.5

    def breaker(self) -> Breaker:
        return Breaker("cache:6379", lambda: self.now, lambda: self.drawn)


class BreakerMachine(RuleBasedStateMachine):
    """Failures, successes, probes and time in any order; the model is four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = self.clock.breaker()
        self.state = "closed"
        self.failures = 0
        self.open_until = 0.0
        self.no_dial_before = 0.0

    def opens(self) -> None:
        self.state = "open"
        self.open_until = self.clock.now + OPEN_FOR / 2 + OPEN_FOR / 2 * self.clock.drawn

    @rule(seconds=st.floats(0, 0.5))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    def counts(self, times: int, draw: float) -> None:
        self.clock.drawn = draw
        self.failures += times
        self.no_dial_before = self.clock.now + draw * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 16))

    @precondition(lambda self: self.state != "half-open")
    @rule(times=st.integers(1, 7), draw=DRAWS)
    def fails(self, times: int, draw: float) -> None:
        self.counts(times, draw)
        opens = self.state == "closed" and self.failures >= FAILURES
        if opens:
            self.opens()
        assert self.breaker.failed(CAUSE, times) is opens, "it says so once, when it opens"

    @precondition(lambda self: self.state == "half-open")
    @rule(draw=DRAWS)
    def probe_fails(self, draw: float) -> None:
        self.counts(1, draw)
        self.opens()
        self.breaker.probe_failed(CAUSE)

    @rule()
    def succeeds(self) -> None:
        self.breaker.succeeded()
        self.state, self.failures, self.no_dial_before = "closed", 0, 0.0

    @rule()
    def is_asked(self) -> None:
        if self.state == "closed":
            assert self.breaker.admit() is False
        elif self.state == "open" and self.clock.now >= self.open_until:
            assert self.breaker.admit() is True
            self.state = "half-open"
        else:
            with pytest.raises(CircuitOpen, match=f"^cache:6379 failed {self.failures} times in a row .*last: refused$") as caught:
                self.breaker.admit()
            assert caught.value.__cause__ is CAUSE

    @precondition(lambda self: self.state == "half-open")
    @rule()
    def probe_is_abandoned(self) -> None:
        self.breaker.abandoned()
        self.state = "open"  # and its time is over: the next caller may be the probe

    @precondition(lambda self: self.state == "half-open")
    @rule()
    def forks(self) -> None:
        self.breaker.renew()
        self.state = "open"

    @invariant()
    def is_what_the_model_says(self) -> None:
        assert self.breaker.state == self.state
        assert self.breaker.closed is (self.state == "closed")
        assert self.breaker.troubled is (self.failures > 0)
        expected = 0.0 if self.state == "half-open" else max(0.0, self.no_dial_before - self.clock.now)
        assert self.breaker.pause() == pytest.approx(expected)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(draw=DRAWS)
def test_an_open_breaker_refuses_for_at_least_half_of_its_time_and_never_longer(draw):
    clock = Clock()
    clock.drawn = draw
    breaker = clock.breaker()
    assert breaker.failed(CAUSE, FAILURES)
    clock.now += OPEN_FOR / 2 - 0.001
    with pytest.raises(CircuitOpen):
        breaker.admit()
    clock.now += OPEN_FOR / 2 + 0.002
    assert breaker.admit()


def opened(clock: Clock) -> Breaker:
    breaker = clock.breaker()
    breaker.failed(CAUSE, FAILURES)
    clock.now += OPEN_FOR
    return breaker


def at_once(breaker: Breaker, threads: int, pool: ThreadPoolExecutor) -> list[bool | CircuitOpen]:
    """Ask for admission on many threads, all let loose at a barrier."""
    barrier = threading.Barrier(threads)

    def ask() -> bool | CircuitOpen:
        barrier.wait(10)
        try:
            return breaker.admit()
        except CircuitOpen as refusal:
            return refusal

    return [future.result(10) for future in [pool.submit(ask) for _ in range(threads)]]


@pytest.mark.parametrize("ending", ["probe_failed", "abandoned", "succeeded"])
def test_of_many_threads_one_is_the_probe(ending):
    clock, threads = Clock(), 24
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(40):
            breaker = opened(clock)
            answers = at_once(breaker, threads, pool)
            assert answers.count(True) == 1
            refusals = {id(answer) for answer in answers if isinstance(answer, CircuitOpen)}
            assert len(refusals) == threads - 1, "each has an error of its own"
            if ending == "probe_failed":
                breaker.probe_failed(CAUSE)
                assert not any(answer is True for answer in at_once(breaker, threads, pool))
                clock.now += OPEN_FOR
            else:
                getattr(breaker, ending)()
            again = at_once(breaker, threads, pool)
            assert again.count(True) == (0 if ending == "succeeded" else 1)
            assert again.count(False) == (threads if ending == "succeeded" else 0)


def test_what_happens_elsewhere_does_not_end_the_probe():
    """A lane that dies late is not the probe: as long as that has not decided there is no second one."""
    clock = Clock()
    breaker = opened(clock)
    assert breaker.admit()
    breaker.failed(ConnectionLost("a lane from before"))
    clock.now += OPEN_FOR
    with pytest.raises(CircuitOpen):
        breaker.admit()


def test_failures_are_forgotten_only_after_a_success():
    breaker = Clock().breaker()
    for _ in range(FAILURES - 1):
        assert not breaker.failed(CAUSE)
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        assert not breaker.failed(CAUSE)
    assert breaker.closed
    assert breaker.failed(CAUSE)
    assert repr(breaker) == f"<Breaker cache:6379 open, {FAILURES} failures in a row>"


ALWAYS, IF_HARMLESS, NEVER = (True, True), (True, False), (False, False)  # repeatable, and not
TABLE = {
    Unavailable: NEVER,
    ConnectFailed: ALWAYS,
    CircuitOpen: NEVER,
    OutcomeUnknown: IF_HARMLESS,
    ConnectionLost: IF_HARMLESS,
    DeadlineExceeded: NEVER,
    Overloaded: NEVER,
    Refused: ALWAYS,
    Redirected: ALWAYS,
}
REFUSALS = {
    "BUSY": ALWAYS,
    "CLUSTERDOWN": ALWAYS,
    "LOADING": ALWAYS,
    "MASTERDOWN": ALWAYS,
    "READONLY": ALWAYS,
    "TRYAGAIN": ALWAYS,
    "MISCONF": NEVER,
    "NOREPLICAS": NEVER,
    "OOM": NEVER,
}


def family(kind: type[Unavailable]) -> set[type[Unavailable]]:
    return {kind}.union(*(family(child) for child in kind.__subclasses__() if child.__module__.startswith("forebay.")))


def test_every_error_of_the_tree_is_in_the_table():
    assert family(Unavailable) == set(TABLE)


@pytest.mark.parametrize("kind", TABLE)
def test_what_may_be_repeated(kind):
    error = kind("MOVED 1 host:1")
    assert (may_repeat(error, repeatable=True), may_repeat(error, repeatable=False)) == TABLE[kind]


@pytest.mark.parametrize("code", REFUSALS)
def test_which_refusals_are_repeated(code):
    error = Refused(f"{code} not now")
    assert (may_repeat(error, repeatable=True), may_repeat(error, repeatable=False)) == REFUSALS[code]


def test_every_refusal_that_the_wire_knows_is_in_the_table():
    from forebay.wire import resp

    assert set(REFUSALS) == resp._REFUSALS


@given(attempt=st.integers(1, 10_000), draw=DRAWS)
def test_a_pause_is_drawn_from_the_whole_interval(attempt, draw):
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt - 1, 60))
    assert pause_before(attempt, lambda: draw) == pytest.approx(draw * longest)
    assert 0 <= pause_before(attempt) < longest


def test_pauses_double_up_to_their_bound():
    caps = [pause_before(attempt, lambda: 1.0) for attempt in range(1, 12)]
    assert caps[0] == FIRST_PAUSE
    assert all(later == min(LONGEST_PAUSE, earlier * 2) for earlier, later in pairwise(caps))
    assert caps[-1] == LONGEST_PAUSE


def test_full_jitter_leaves_no_part_of_the_interval_out():
    draw = random.Random(7).random
    for attempt in (1, 4, 20):
        cap = pause_before(attempt, lambda: 1.0)
        tenths = {int(pause_before(attempt, draw) / cap * 10) for _ in range(500)}
        assert tenths == set(range(10))
