"""Each law of limits as its definition has it, with exact rationals: slow, plain, and written without the scripts that it judges.

A law says one thing: how many units stand against a rate at a time, if nothing more comes. That never grows as time goes by, so all the
rest follows from it for all laws alike: what fits, and, by looking for the first microsecond at which it is so, when it fits and when
nothing stands there any more. Where a clock that is set back, or another limit, leaves more than there can be, *settled* says what is
made of it. At the end are the scripts themselves, on a real server, by a clock that the test holds.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

from forebay import Forebay, Rate
from forebay.ratelimit.rate import pack_rates
from forebay.ratelimit.scripts import LETTERS, decides

__all__ = ["LAST", "LONGER", "MODELS", "Found", "Judgement", "Key", "Model", "Pace", "Twins", "charge", "in_full", "paces"]

LAST = 2**53 - 3 * 366 * 86_400_000_000  # from here on, a time put off by the longest period may be no whole number of a double
HELD = """
local server, clock = redis, { ARGV[#ARGV - 1], ARGV[#ARGV] }
ARGV[#ARGV] = nil
ARGV[#ARGV] = nil
local redis = setmetatable({ call = function(name, ...)
  local words = { ... }
  if name == 'TIME' then return clock end
  if name == 'SET' and words[3] == 'PX' then words[4] = words[4] + LONGER end
  if name == 'PEXPIRE' then words[2] = words[2] + LONGER end
  return server.call(name, unpack(words))
end }, { __index = server })
"""
LONGER = 3_600_000  # milliseconds, for which each key lives on


class Pace(NamedTuple):
    """So many in a period of so many microseconds, of which a burst at once."""

    limit: int
    period: int
    burst: int


class Found(NamedTuple):
    """Where a key stands with one rate. *retry* is None where the cost would never pass."""

    remaining: int
    retry: int | None
    reset: int


class Judgement(NamedTuple):
    """1: it passes, 0: it does not, -1: it never will; and what was found for each rate."""

    passes: int
    found: list[Found]


class Model:
    """A limit of one key by one or several rates, all or nothing."""

    def __init__(self, paces: list[Pace]) -> None:
        self.paces = paces
        self.state: dict[int, Any] = {}  # by period: another limit finds what was counted

    def peek(self, cost: int, now: int) -> Judgement:
        """Judge, and change nothing."""
        return self._judge(self.settled(now)[0], cost, now)

    def hit(self, cost: int, now: int) -> Judgement:
        """Judge, and charge all rates if all have room; what a refusal finds out of order it leaves in order."""
        settled, disorder = self.settled(now)
        judged = self._judge(settled, cost, now)
        if judged.passes != 1:
            if disorder:
                self.state = settled
            return judged
        self.state = self.charged(settled, cost, now)
        after = self._judge(self.state, 1, now)
        return Judgement(1, [Found(then.remaining, 0, then.reset) for then in after.found])

    def _judge(self, state: dict[int, Any], cost: int, now: int) -> Judgement:
        found = []
        passes = 1
        for pace in self.paces:
            stands = self._standing(state, pace)
            used = stands(now)
            room = pace.burst - used
            retry = None if cost > pace.burst else first(lambda at, stands=stands, pace=pace: stands(at) + cost <= pace.burst, now)
            found.append(Found(max(0, floor(room)), retry, first(lambda at, stands=stands: stands(at) == 0, now)))
            if retry is None:
                passes = -1
            elif retry and passes == 1:
                passes = 0
        return Judgement(passes, found)

    def _standing(self, state: dict[int, Any], pace: Pace) -> Callable[[int], Fraction]:
        mine = state.get(pace.period)
        return lambda at: Fraction(0) if mine is None else self.used(mine, pace, at)

    used: Callable[[Any, Pace, int], Fraction]  # how many units stand against a rate at a time, of its state
    settled: Callable[[int], tuple[dict[int, Any], bool]]  # the states as they can be now, and whether they were out of order
    charged: Callable[[dict[int, Any], int, int], dict[int, Any]]  # those after a cost was charged to all rates


def first(holds: Callable[[int], bool], now: int) -> int:
    """Return the least number of microseconds after which *holds*, which then stays so."""
    if holds(now):
        return 0
    most = 1
    while not holds(now + most):
        most *= 2
        assert most < 2**60, "it never holds"
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        if holds(now + middle):
            most = middle
        else:
            least = middle
    return most


class Gcra(Model):
    """A theoretical arrival time, which each unit puts off by period / limit, and which is at most the burst ahead. State: limit, time.

    With another limit as many units are used as before.
    """

    def used(self, mine: Any, pace: Pace, at: int) -> Fraction:
        limit, arrival = mine
        return max(Fraction(0), (arrival - at) * limit / pace.period)

    def settled(self, now: int) -> tuple[dict[int, Any], bool]:
        state = {}
        disorder = False
        for pace in self.paces:
            limit, arrival = self.state.get(pace.period, (pace.limit, Fraction(now)))
            ahead = max(Fraction(0), arrival - now)
            if limit != pace.limit:
                ahead = ahead * limit / pace.limit
            most = Fraction(pace.burst * pace.period, pace.limit)
            disorder |= limit != pace.limit or ahead > most
            if ahead:
                state[pace.period] = (pace.limit, now + min(ahead, most))
        return state, disorder

    def charged(self, settled: dict[int, Any], cost: int, now: int) -> dict[int, Any]:
        state = {}
        for pace in self.paces:
            _, arrival = settled.get(pace.period, (0, now))
            state[pace.period] = (pace.limit, max(arrival, Fraction(now)) + Fraction(cost * pace.period, pace.limit))
        return state


class FixedWindow(Model):
    """Windows begin at the multiples of the period, and each has its own count. State: when the window began, count.

    A window that is yet to come, because the clock was set back, is the present one, and full at most.
    """

    def used(self, mine: Any, pace: Pace, at: int) -> Fraction:
        begin, count = mine
        return Fraction(count if at < begin + pace.period else 0)

    def settled(self, now: int) -> tuple[dict[int, Any], bool]:
        state = {}
        disorder = False
        for pace in self.paces:
            begin, count = self.state.get(pace.period, (0, 0))
            current = now // pace.period * pace.period
            if begin > current:
                count, disorder = min(count, pace.limit), True
            state[pace.period] = (current, count if begin >= current else 0)
        return state, disorder

    def charged(self, settled: dict[int, Any], cost: int, now: int) -> dict[int, Any]:
        return {period: (begin, count + cost) for period, (begin, count) in settled.items()}


class SlidingWindow(Model):
    """Windows as above. What the one before counted weighs as much as of it is still in sight of a period that ends now.

    State: when the window began, the count of the one before, its own count. Of windows to come each is full at most.
    """

    def used(self, mine: Any, pace: Pace, at: int) -> Fraction:
        begin, before, count = mine
        end = begin + pace.period
        if at < end:
            return count + before * Fraction(end - at, pace.period)
        return count * Fraction(max(0, end + pace.period - at), pace.period)

    def settled(self, now: int) -> tuple[dict[int, Any], bool]:
        state = {}
        disorder = False
        for pace in self.paces:
            begin, before, count = self.state.get(pace.period, (0, 0, 0))
            current = now // pace.period * pace.period
            if begin > current:
                state[pace.period] = (current, min(before, pace.limit), min(count, pace.limit))
                disorder = True
            elif begin == current:
                state[pace.period] = (begin, before, count)
            else:
                state[pace.period] = (current, count if begin == current - pace.period else 0, 0)
        return state, disorder

    def charged(self, settled: dict[int, Any], cost: int, now: int) -> dict[int, Any]:
        return {period: (begin, before, count + cost) for period, (begin, before, count) in settled.items()}


class SlidingLog(Model):
    """Every hit is known with its time, and stands there for one period from then on. State: times and costs, for all rates the same.

    If the last hit is yet to come, because the clock was set back, all that it has in sight of the longest rate happens now.
    """

    def used(self, mine: Any, pace: Pace, at: int) -> Fraction:
        return Fraction(sum(cost for when, cost in mine if when > at - pace.period))

    def settled(self, now: int) -> tuple[dict[int, Any], bool]:
        longest = max(pace.period for pace in self.paces)
        hits = next(iter(self.state.values()), ())
        disorder = bool(hits) and hits[-1][0] > now
        if disorder:
            last = hits[-1][0]
            hits = ((now, sum(cost for when, cost in hits if when > last - longest)),)
        return {pace.period: hits for pace in self.paces}, disorder

    def charged(self, settled: dict[int, Any], cost: int, now: int) -> dict[int, Any]:
        return {period: (*hits, (now, cost)) for period, hits in settled.items()}


MODELS: dict[str, type[Model]] = {
    "gcra": Gcra,
    "fixed_window": FixedWindow,
    "sliding_window": SlidingWindow,
    "sliding_log": SlidingLog,
}


def paces(rates: tuple[Rate, ...]) -> list[Pace]:
    return [Pace(rate.limit, rate.period_us, rate.burst) for rate in rates]


def held(*, longer: bool) -> str:
    """Return the script by the test's clock; and with *longer* lifetimes, so that no key ends before its time by that clock has come."""
    text = decides().source
    assert all(f"redis.call('{name}'" in text for name in ("TIME", "SET", "PEXPIRE")), "the script is another, and cannot be held so"
    assert text.count("'PX'") == text.count("redis.call('SET'"), "a lifetime is said in another way"
    return HELD.replace("LONGER", str(LONGER if longer else 0)) + text


def in_full(reply: list[Any], now: int) -> list[Any]:
    """Return a reply with all its numbers: what passes by one or two rates may be answered by what is left, and the reset, of each."""
    if len(reply) not in (2, 4) or isinstance(reply[0], list):
        return reply
    return [1, None, now, *(number for left, reset in zip(reply[::2], reply[1::2], strict=True) for number in (left, 0, reset))]


class Key:
    """A key of a policy on the server."""

    def __init__(self, bay: Forebay, law: str, rates: tuple[Rate, ...], *, longer: bool = True) -> None:
        self.bay, self.law, self.rates = bay, law, rates
        self.text = held(longer=longer)
        self.name = f"{bay.prefix}{uuid.uuid4().hex}"
        self.own = f"{self.name}:rates"

    def ask(self, mode: str, cost: int, now: int, mark: int | None = None) -> list[Any]:
        """Return the reply about this key: 1, 0 or -1, rates of its own, a mark, and three numbers for each rate."""
        words = mode, LETTERS[self.law], cost if mark is None else f"{cost}:{mark}", pack_rates(self.rates)
        return in_full(self.bay.execute("EVAL", self.text, 2, self.name, self.own, *words, now // 1_000_000, now % 1_000_000)[0], now)

    def judge(self, mode: str, cost: int, now: int) -> Judgement:
        return self.judgement(self.ask(mode, cost, now), cost)

    def judgement(self, reply: list[Any], cost: int) -> Judgement:
        passes, own, _, *numbers = reply
        assert own is None
        triples = zip(self.rates, numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        return Judgement(passes, [Found(left, None if cost > rate.burst else retry, reset) for rate, left, retry, reset in triples])

    def room(self, now: int) -> list[int]:
        return [found.remaining for found in self.judge("peek", 1, now).found]

    def stored(self) -> Any:
        if self.law == "sliding_log":
            return self.bay.execute("ZRANGE", self.name, 0, -1, "WITHSCORES")
        return self.bay.execute("GET", self.name)

    def of_size(self, cost: int | str, now: int) -> int:
        """Return what a cost in words comes to."""
        least = min(rate.burst for rate in self.rates)
        if isinstance(cost, int):
            return min(cost, least)
        left = min(self.room(now))
        return max(1, min(least, {"all": least, "half": least // 2, "left": left, "left and one": left + 1}[cost]))

    def after(self, advance: tuple[str, int], now: int) -> int:
        """Return the time after an *advance* in words."""
        kind, number = advance
        first, longest = self.rates[0], self.rates[-1].period_us
        if kind in ("retry", "reset"):  # the very microsecond, and those beside it
            ends = [getattr(found, kind) for found in self.judge("peek", min(rate.burst for rate in self.rates), now).found]
            by = max(0, max(ends) + number)
        elif kind == "window":
            by = -now % first.period_us + (number - 1) % 3 - 1 + number // 3 * first.period_us
        else:
            size = {"us": 1, "unit": first.period_us / first.limit, "eighth": first.period_us / 8, "eighth of the longest": longest / 8}
            by = ceil(size[kind] * number)
        return min(now + max(0, by), LAST)


def charge(key: Key, size: int | str, now: int) -> tuple[int, int]:
    """Hit, and return the cost that passed (0: none) and its mark."""
    cost = key.of_size(size, now)
    passes, _, mark, *_ = key.ask("hit", cost, now)
    return (cost if passes == 1 else 0), mark


class Twins:
    """Two keys, to one of which the hit in question never happened."""

    def __init__(self, bay: Forebay, law: str, rates: tuple[Rate, ...]) -> None:
        self.with_it, self.without = Key(bay, law, rates), Key(bay, law, rates)

    def both(self, size: int | str, now: int) -> None:
        cost, _ = charge(self.with_it, size, now)
        if cost:
            assert self.without.ask("hit", cost, now)[0] == 1, "who has used less is not refused"

    def same(self, now: int) -> None:
        for later in (now, *(self.without.after(("eighth", eighths), now) for eighths in (1, 3, 8, 13))):
            for size in ("all", "half", 1):
                cost = self.without.of_size(size, later)
                assert self.with_it.judge("peek", cost, later) == self.without.judge("peek", cost, later)

    def no_more_room(self, now: int) -> None:
        for later in (now, *(self.without.after(("eighth", eighths), now) for eighths in (1, 3, 8))):
            rooms = zip(self.with_it.room(later), self.without.room(later), strict=True)
            assert all(one <= other for one, other in rooms), "more room than if it had never been charged"
