"""How much in how long: ``100/minute``. Whole microseconds and whole numbers, small enough for a double to hold every product exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from ..durations import Duration, to_seconds
from ..errors import InvalidDuration, InvalidRate

__all__ = ["EXACT", "Rate", "RateLike", "pack_rates", "rates_of", "share_of", "stored_rates"]

EXACT: Final = 2**53
"""Up to here a double, which is what a script counts with, holds every whole number."""

_US: Final = 1_000_000
_SHORTEST: Final = 1_000  # a lifetime on the server is whole milliseconds
_LONGEST: Final = 366 * 86_400 * _US
_LONGEST_DEBT: Final = 10 * _LONGEST
_MOST_RATES: Final = 8
_MOST_DIGITS: Final = 30
_PERIODS: Final = {
    name: seconds * _US
    for names, seconds in (("s sec second", 1), ("m min minute", 60), ("h hour", 3600), ("d day", 86_400), ("w week", 604_800))
    for name in (*names.split(), f"{names.split()[-1]}s")
}
_NAMES: Final = {_US: "second", 60 * _US: "minute", 3600 * _US: "hour", 86_400 * _US: "day", 604_800 * _US: "week"}
_FORM: Final = re.compile(r"\s*(?P<limit>[0-9]*)\s*(?P<slash>/?)\s*(?P<per>[A-Za-z0-9.]*)\s*(?:burst\s+(?P<burst>[0-9]+)\s*)?", re.ASCII)
_STORED: Final = re.compile(rb"([0-9]{1,30}):([0-9]{1,30}):([0-9]{1,30})")
_HOW: Final = "write '100/minute', '5/250ms', '100/minute burst 20', or several with commas"


class Rate:
    """*limit* in *per*, of which *burst* may come at once.

    Args:
        limit: how many, from 1 on.
        per: in how long: seconds, a ``timedelta``, or text such as ``"15m"``; from a millisecond to 366 days.
        burst: how many at once after a pause; by default *limit*. For ``algorithm="gcra"`` alone.

    Raises:
        InvalidRate: a number cannot be used; the message names it.
    """

    __slots__ = ("burst", "limit", "period_us")

    limit: int
    burst: int
    period_us: int

    def __init__(self, limit: int, per: Duration, burst: int | None = None) -> None:
        try:
            period = round(to_seconds(per) * _US)
        except InvalidDuration as error:
            raise InvalidRate(f"per={per!r} is no period: {error}") from None
        _fill(self, limit, period, limit if burst is None else burst)

    @classmethod
    def bucket(cls, capacity: int, refill: str | Rate) -> Rate:
        """Return the rate of a token bucket: it holds *capacity* tokens, and is refilled at *refill*, such as ``"100/minute"``.

        Raises:
            InvalidRate: one of them cannot be used.
        """
        rate = refill if isinstance(refill, Rate) else only(rates_of(refill), refill)
        return cls.of_us(rate.limit, rate.period_us, capacity)

    @classmethod
    def of_us(cls, limit: int, period_us: int, burst: int | None = None) -> Rate:
        """Return a rate whose period is in microseconds. Raises as the class."""
        rate = cls.__new__(cls)
        _fill(rate, limit, period_us, limit if burst is None else burst)
        return rate

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Rate does not change: make another one with {name}={value!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Rate does not change, and keeps its {name}")

    def __reduce__(self) -> tuple[Any, tuple[int, int, int]]:
        return _unchecked, (self.limit, self.period_us, self.burst)

    @property
    def per(self) -> float:
        """The period in seconds."""
        return self.period_us / _US

    @property
    def key(self) -> tuple[int, int, int]:
        """Limit, period in microseconds, and burst."""
        return self.limit, self.period_us, self.burst

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        period = _NAMES.get(self.period_us) or (f"{_shown(self.per)}s" if self.period_us >= _US else f"{_shown(self.period_us / 1000)}ms")
        return f"{self.limit}/{period}" + ("" if self.burst == self.limit else f" burst {self.burst}")

    def __repr__(self) -> str:
        return f"Rate({self.limit}, per={_shown(self.per)}" + ("" if self.burst == self.limit else f", burst={self.burst}") + ")"


RateLike = str | Rate | Iterable[Rate]
"""``"100/minute"``, ``"10/second, 1000/hour"``, a `Rate`, or several."""


def rates_of(given: RateLike) -> tuple[Rate, ...]:
    """Return the rates that *given* names, the shortest period first.

    Raises:
        InvalidRate: it cannot be read; the message names the place.
    """
    if isinstance(given, str):
        rates = _read(given)
    elif isinstance(given, Rate):
        return (given,)
    else:
        try:
            rates = list(given)
        except TypeError:
            raise InvalidRate(f"{given!r} is no rate: {_HOW}, or Rate(100, per=60)") from None
        for rate in rates:
            if not isinstance(rate, Rate):
                raise InvalidRate(f"{rate!r} in a list of rates is no Rate: write Rate(100, per=60)")
    if not 1 <= len(rates) <= _MOST_RATES:
        raise InvalidRate(f"{len(rates)} rates in {given!r}: a limit has from 1 to {_MOST_RATES}")
    rates.sort(key=lambda rate: rate.period_us)
    for one, other in pairwise(rates):
        if one.period_us == other.period_us:
            raise InvalidRate(f"{one} and {other} have the same period: the smaller one is enough")
    return tuple(rates)


def pack_rates(rates: Iterable[Rate]) -> str:
    """Return *rates* as they are stored for a key of its own: ``limit:period:burst``, joined by commas."""
    return ",".join(f"{rate.limit}:{rate.period_us}:{rate.burst}" for rate in rates)


def _fill(rate: Rate, limit: int, period_us: int, burst: int) -> None:
    for name, value in (("limit", limit), ("burst", burst)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidRate(f"{name}={value!r} is no number from 1 on: to let nothing through, refuse it yourself")
    if not _SHORTEST <= period_us <= _LONGEST:
        raise InvalidRate(f"a period of {period_us / _US:g} s is not between a millisecond and 366 days")
    if limit * burst >= EXACT or burst * period_us // limit > _LONGEST_DEBT:
        numbers = [str(number) if number < EXACT else "more than 2**53" for number in (limit, burst)]  # Python does not show all
        raise InvalidRate(f"{numbers[0]} in {period_us / _US:g} s with a burst of {numbers[1]} is more than can be counted exactly")
    _assign(rate, limit, period_us, burst)


def share_of(rate: Rate, share: float) -> Rate:
    """Return *share* of *rate*, and no less than one at once."""
    return _unchecked(max(1, math.floor(rate.limit * share)), rate.period_us, max(1, math.floor(rate.burst * share)))


def _unchecked(limit: int, period_us: int, burst: int) -> Rate:
    rate = Rate.__new__(Rate)
    _assign(rate, limit, period_us, burst)
    return rate


def _assign(rate: Rate, limit: int, period_us: int, burst: int) -> None:
    for name, value in (("limit", limit), ("burst", burst), ("period_us", period_us)):
        object.__setattr__(rate, name, value)


def stored_rates(data: object, *, checked: bool = False) -> tuple[Rate, ...] | None:
    """Return the rates of `pack_rates`; None if they are none, by the same rules as a script's. What a script read was *checked* by it."""
    if not isinstance(data, bytes):
        return None
    rates = []
    for part in data.split(b","):
        found = _STORED.fullmatch(part)
        if found is None:
            return None
        numbers = [int(number) for number in found.groups()]
        try:
            rates.append(_unchecked(*numbers) if checked else Rate.of_us(*numbers))
        except InvalidRate:
            return None
    return tuple(rates)


def only(rates: tuple[Rate, ...], given: object) -> Rate:
    """Return the one of *rates*, or raise `InvalidRate`."""
    if len(rates) != 1:
        raise InvalidRate(f"{given!r} has {len(rates)} rates: one is wanted here")
    return rates[0]


def _read(text: str) -> list[Rate]:
    rates: list[Rate] = []
    at = 0
    for part in text.split(","):
        found = _FORM.match(part)
        assert found is not None  # every part of the form may be empty  # noqa: S101
        rest = part[found.end() :]
        if not found["limit"]:
            raise _unreadable(text, at + found.start("limit"), part.strip(), "does not begin with a number")
        if not found["slash"]:
            raise _unreadable(text, at + found.end("limit"), part[found.end("limit") :].strip(), "stands where '/' should")
        period = _PERIODS.get(found["per"].lower())
        if period is None:
            try:
                period = round(to_seconds(found["per"]) * _US)
            except InvalidDuration:
                raise _unreadable(text, at + found.start("per"), found["per"] or rest.strip(), "is no period") from None
        if rest:
            raise _unreadable(text, at + found.end(), rest.strip(), "is too much")
        try:
            rates.append(Rate.of_us(_number(found["limit"]), period, _number(found["burst"]) if found["burst"] else None))
        except InvalidRate as error:
            raise InvalidRate(f"{text!r}, at {at}: {error}") from None
        at += len(part) + 1
    return rates


def _number(digits: str) -> int:
    """Return a number; of one that is far too large anything that is too large as well."""
    return int(digits) if len(digits) <= _MOST_DIGITS else int(digits.lstrip("0")[:_MOST_DIGITS] or "0")


def _shown(number: float) -> str:
    return repr(number).removesuffix(".0")


def _unreadable(text: str, at: int, what: str, why: str) -> InvalidRate:
    return InvalidRate(f"{text!r} is no rate: at {at}, {what!r} {why}; {_HOW}")
