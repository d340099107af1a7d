"""What a limiter can be told, read and checked once. What cannot be used is refused at once, with what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, Final, Literal, TypedDict, get_args

from ..durations import Duration, to_seconds
from ..errors import InvalidDuration, InvalidNamespace, InvalidRate, SettingsError
from ..keys import Key
from .rate import EXACT, Rate, RateLike, rates_of, share_of
from .scripts import Law

__all__ = ["Algorithm", "LimitOptions", "OnOutage", "Options", "check_plain", "check_rates"]

Algorithm = Literal["gcra", "token_bucket", "fixed_window", "sliding_window", "sliding_log"]
OnOutage = Literal["open", "closed", "local"]

_LONGEST_NAME: Final = 64
_LEAST_SECRET: Final = 16  # bytes
_MOST_SECRET: Final = 64


class LimitOptions(TypedDict, total=False):
    """What `bay.limiter` can be told.

    Attributes:
        algorithm: "gcra" (default), which is a "token_bucket" seen from the other side, "fixed_window", "sliding_window" (two counters)
            or "sliding_log" (exact, and remembers every hit).
        concurrency: how many at once, for `slot`.
        slot_lease: a slot whose holder is heard of no more is free after so long; it is renewed every third of that. Default 30 s.
        on_outage: with the server away "open" lets through, "closed" refuses, "local" counts in this process. Default "open".
        local_share: what "local" lets through, as a share of the rate. Default 0.1.
        shadow: decides, counts and reports, and refuses nobody.
        exempt: keys that are never limited; or a function of the key that says so, sync and quick.
        rate_for: a function of the key that returns its rate, or None for the limiter's own; sync and quick.
        remember: how many refused keys the process remembers, so that they cost no round trip. Default 10,000; 0: none.
        lease: so many units are taken at a time, for keys that are hit very often: see the documentation for what that costs.
        lease_for: units that were taken and not used are given up after so long. Default 1 s.
        secret: keys the digests of keys in names on the server; 16 bytes or more, the same in all processes.
    """

    algorithm: Algorithm
    concurrency: int | None
    slot_lease: Duration
    on_outage: OnOutage
    local_share: float
    shadow: bool
    exempt: Collection[Key] | Callable[[Any], bool]
    rate_for: Callable[[Any], RateLike | None]
    remember: int
    lease: int | None
    lease_for: Duration
    secret: str | bytes | None


class Options:
    """The options of one limiter, checked.

    Raises:
        SettingsError, InvalidDuration, InvalidRate, InvalidNamespace: one cannot be used; the message names it.
        TypeError: there is no such option.
    """

    def __init__(self, name: str, rate: RateLike | None, given: LimitOptions) -> None:
        rest: dict[str, Any] = dict(given)
        self.name = _checked_name(name)
        algorithm = rest.pop("algorithm", "gcra")
        if algorithm not in get_args(Algorithm):
            raise SettingsError(f"algorithm={algorithm!r} is unknown: use one of {', '.join(get_args(Algorithm))}")
        self.law: Law = "gcra" if algorithm == "token_bucket" else algorithm
        self.rates = () if rate is None else check_rates(rates_of(rate), self.law)
        self.concurrency = _number(rest, "concurrency", None, 1)
        if not self.rates and self.concurrency is None:
            raise SettingsError(f"limiter {name!r} limits nothing: give a rate, as in limiter({name!r}, '100/minute'), or concurrency=3")
        self.slot_lease_us = round(_seconds(rest, "slot_lease", "30s") * 1000) * 1000 or 1000
        self.on_outage: OnOutage = rest.pop("on_outage", "open")
        if self.on_outage not in get_args(OnOutage):
            raise SettingsError(f"on_outage={self.on_outage!r} is unknown: use 'open', 'closed' or 'local'")
        share = rest.pop("local_share", 0.1)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise SettingsError(f"local_share={share!r} is no share: give a number above 0, up to 1")
        self.local_share = share
        self.shadow = rest.pop("shadow", False)
        if not isinstance(self.shadow, bool):
            raise SettingsError(f"shadow={self.shadow!r} is neither True nor False")
        self.exempt = _exemption(rest.pop("exempt", None))
        self.rate_for: Callable[[Key], RateLike | None] | None = rest.pop("rate_for", None)
        if self.rate_for is not None:
            check_plain("rate_for", self.rate_for)
        self.remember = _number(rest, "remember", 10_000, 0) or 0
        self.lease = _number(rest, "lease", None, 2)
        least = min(self.rates, key=lambda rate: rate.burst, default=None)
        if self.lease is not None and least is not None and self.lease > least.burst:
            raise SettingsError(f"lease={self.lease} is more than {least} lets through at once: take less at a time")
        self.lease_for = _seconds(rest, "lease_for", "1s")
        self.secret = _secret(rest.pop("secret", None))
        if rest:
            raise TypeError(f"limiter() has no option {next(iter(rest))!r}; there are: {', '.join(LimitOptions.__annotations__)}")

    def local_of(self, rates: tuple[Rate, ...]) -> tuple[Rate, ...]:
        """Return what this process lets through of *rates* while the server is away: its share, and no less than one at once."""
        return tuple(share_of(rate, self.local_share) for rate in rates)


def check_rates(rates: tuple[Rate, ...], law: Law) -> tuple[Rate, ...]:
    """Return *rates*, if *law* can go by them.

    Raises:
        InvalidRate: it cannot.
    """
    for rate in rates:
        if law != "gcra" and rate.burst != rate.limit:
            raise InvalidRate(f"{rate} has a burst of its own, which {law} knows nothing of: use algorithm='gcra', or leave it out")
        if law == "sliding_window" and rate.limit * rate.period_us >= EXACT // 2:
            raise InvalidRate(f"{rate} is more than sliding_window can count exactly: use algorithm='gcra', or a shorter period")
    return rates


def _checked_name(name: object) -> str:
    plain = isinstance(name, str) and name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not plain or len(str(name)) > _LONGEST_NAME:
        raise InvalidNamespace(f"limiter {name!r} cannot be called so: letters, digits, '_', '-' and '.', at most {_LONGEST_NAME}")
    return str(name)


def _number(rest: dict[str, Any], option: str, default: int | None, least: int) -> int | None:
    value = rest.pop(option, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10_000_000):
        raise SettingsError(f"{option}={value!r} is no number from {least} on")
    return value


def _seconds(rest: dict[str, Any], option: str, default: str) -> float:
    try:
        return to_seconds(rest.pop(option, default))
    except InvalidDuration as error:
        raise InvalidDuration(f"{option}: {error}") from None


def _exemption(given: Any) -> Callable[[Key], bool] | None:
    if given is None:
        return None
    if callable(given):
        check_plain("exempt", given)
        return given  # type: ignore[no-any-return]
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise SettingsError(f"exempt={given!r} is neither a collection of keys nor a function: write exempt={{{given!r}}}")
    keys = frozenset(str(key) for key in given)
    return lambda key: str(key) in keys


def check_plain(option: str, function: object, of: str = "a key") -> None:
    """Raise `SettingsError` if *function*, which is asked in every decision, is none or is async."""
    if not callable(function):
        raise SettingsError(f"{option}={function!r} is no function of {of}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise SettingsError(f"{option} is async, and asked in every decision: make it a plain, quick function, and look things up before")


def _secret(given: object) -> bytes:
    if given is None:
        return b""
    try:
        secret = given.encode() if isinstance(given, str) else given
    except UnicodeEncodeError:
        raise SettingsError("secret holds half of a surrogate pair, which has no bytes") from None
    if not isinstance(secret, bytes) or not _LEAST_SECRET <= len(secret) <= _MOST_SECRET:
        raise SettingsError(f"secret must be text or bytes of {_LEAST_SECRET} to {_MOST_SECRET} bytes")
    return secret
