"""The laws of limits as plain functions of a state, a rate, a cost and a time in microseconds: for what is decided without the server.

The scripts in ``lua/`` decide by the same laws, with doubles; here whole numbers have no end, so a time may be counted in parts of one
limit-th of a microsecond. Each law reads what its script stores, and judges it: whether the cost would pass, the units left without it,
microseconds until it would pass, and microseconds until everything is free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from .rate import Rate
from .scripts import Law

__all__ = ["LAW", "Judged", "Rules", "charge_gcra", "judge_gcra"]

Judged = tuple[bool, int, int, int]

_NUMBERS: Final = re.compile(rb"\d+(?::\d+)+")


def judge_gcra(free_at: int, rate: Rate, cost: int, now: int) -> Judged:
    """Judge by GCRA (ITU-T I.371). *free_at* is the time at which all is free again, in parts of one limit-th of a microsecond."""
    most = rate.burst * rate.period_us
    used = min(max(0, free_at - now * rate.limit), most)
    over = used + cost * rate.period_us - most
    return over <= 0, (most - used) // rate.period_us, max(0, -(-over // rate.limit)), -(-used // rate.limit)


def charge_gcra(free_at: int, rate: Rate, cost: int, now: int) -> int:
    """Return the state after *cost*, which may be below zero to give something back."""
    return max(free_at, now * rate.limit) + cost * rate.period_us


def _read_gcra(data: object, rate: Rate, now: int, _longest: int) -> int:
    for period, limit, whole, part in _stored(data, 4):
        if period == rate.period_us:
            if limit == rate.limit:
                return whole * limit + part
            return now * rate.limit + max(0, (whole - now) * limit + part)  # as many units, at the new pace
    return 0


def _judge_fixed(state: tuple[int, int], rate: Rate, cost: int, now: int) -> Judged:
    begin, count = state
    current = now - now % rate.period_us
    if begin != current:
        count = 0 if begin < current else min(count, rate.limit)
    left = current + rate.period_us - now
    ok = count + cost <= rate.limit
    return ok, max(0, rate.limit - count), 0 if ok else left, left if count else 0


def _read_fixed(data: object, rate: Rate, _now: int, _longest: int) -> tuple[int, int]:
    return next(((begin, count) for period, begin, count in _stored(data, 3) if period == rate.period_us), (0, 0))


def _judge_window(state: tuple[int, int, int], rate: Rate, cost: int, now: int) -> Judged:
    begin, before, count = state
    period, limit = rate.period_us, rate.limit
    current = now - now % period
    if begin == current - period:
        before, count = count, 0
    elif begin != current:
        before, count = (0, 0) if begin < current else (min(before, limit), min(count, limit))
    left = period - (now - current)
    free = (limit - count) * period - before * left
    ok = free >= cost * period
    retry = 0
    if not ok:
        room = limit - count - cost
        next_room = max(0, period - (limit - cost) * period // count) if count else 0
        retry = left - room * period // before if room >= 0 else left + next_room
    return ok, max(0, free // period), retry, left + period if count else left if before else 0


def _read_window(data: object, rate: Rate, _now: int, _longest: int) -> tuple[int, int, int]:
    return next((tuple(rest) for period, *rest in _stored(data, 4) if period == rate.period_us), (0, 0, 0))  # type: ignore[return-value]


def _judge_log(state: Sequence[tuple[int, int, int]], rate: Rate, cost: int, now: int) -> Judged:
    seen = [entry for entry in state if entry[0] > now - rate.period_us]
    used = seen[-1][1] - seen[0][1] + seen[0][2] if seen else 0
    reset = seen[-1][0] + rate.period_us - now if seen else 0
    if used + cost <= rate.limit:
        return True, rate.limit - used, 0, reset
    wanted = seen[-1][1] + cost - rate.limit
    retry = next(at for at, total, _ in seen if total >= wanted) + rate.period_us - now
    return False, max(0, rate.limit - used), retry, reset


def _read_log(data: object, rate: Rate, now: int, longest: int) -> list[tuple[int, int, int]]:
    """Return time, sum and cost of each hit, from a reply to ``ZRANGE ... WITHSCORES``."""
    pairs: list[Any] = data if isinstance(data, list) else []
    if pairs and not isinstance(pairs[0], list):  # RESP2, over a client of one's own
        pairs = list(zip(pairs[::2], pairs[1::2], strict=True))
    log: list[tuple[int, int, int]] = [(int(float(at)), *map(int, member.split(b":"))) for member, at in pairs]  # type: ignore[misc]
    if log and log[-1][0] > now:  # the clock was set back: all that was in sight happens now
        used = min(rate.limit, sum(cost for at, _, cost in log if at > log[-1][0] - longest))
        return [(now, used, used)]
    return log


def _stored(data: object, size: int) -> list[tuple[int, ...]]:
    found = _NUMBERS.findall(data) if isinstance(data, bytes) else []
    numbers = [tuple(map(int, each.split(b":"))) for each in found]
    return [each for each in numbers if len(each) == size]


class Rules(Struct, frozen=True):
    """How a law reads the state of a rate from what is stored (the last number is the longest period of a policy), and judges it."""

    read: Callable[[object, Rate, int, int], Any]
    judge: Callable[[Any, Rate, int, int], Judged]


LAW: Final[dict[Law, Rules]] = {
    "gcra": Rules(_read_gcra, judge_gcra),
    "fixed_window": Rules(_read_fixed, _judge_fixed),
    "sliding_window": Rules(_read_window, _judge_window),
    "sliding_log": Rules(_read_log, _judge_log),
}
