"""Whatever a limiter cannot be told is refused when it is made, by an error that names it; what it can be told is taken as it is."""

from __future__ import annotations

import functools
import re
from datetime import timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from forebay import AsyncForebay, Forebay, ForebayError, InvalidDuration, InvalidNamespace, InvalidRate, LimitOptions, Rate, SettingsError
from forebay.ratelimit.options import Options
from forebay.ratelimit.rate import EXACT, rates_of

SECRET = "not to be shown to anybody"
UNIQUE = UUID("12345678-1234-5678-1234-567812345678")


async def asynchronous(key):
    return True


class AsyncCallable:
    async def __call__(self, key):
        return True


class PlainCallable:
    def __call__(self, key):
        return key == "me"


class Asynchronous:
    async def method(self, key):
        return True


ASYNC = [asynchronous, AsyncCallable(), Asynchronous().method, functools.partial(asynchronous)]
WRONG = [
    *(("algorithm", value) for value in ("GCRA", "", "leaky_bucket", None, 1, True, [], b"gcra")),
    *(("concurrency", value) for value in (0, -1, 1.0, "3", True, False, [], 10_000_001, float("nan"))),
    *(("slot_lease", value) for value in (0, -1, "", "soon", None, True, float("nan"), float("inf"), [], timedelta(0))),
    *(("on_outage", value) for value in ("Open", "", "allow", None, True, 1, ["open"], b"open")),
    *(("local_share", value) for value in (0, -0.1, 1.1, 2, "0.1", None, True, False, float("nan"), float("inf"), Fraction(1, 10))),
    *(("shadow", value) for value in (1, 0, "yes", None, [])),
    *(("exempt", value) for value in ("me", b"me", 7, True, iter(["me"]), object())),
    *(("rate_for", value) for value in ("5/second", 7, True, ["5/second"], Rate(5, 1))),
    *(("remember", value) for value in (-1, 1.0, "100", True, [], 10_000_001)),
    *(("lease", value) for value in (1, 0, -1, 2.0, "20", True, [], 10_000_001)),
    *(("lease_for", value) for value in (0, -1, "", "soon", None, True, float("nan"), [], timedelta(0))),
    *(("secret", value) for value in ("", b"", "short", b"x" * 15, "x" * 65, b"x" * 65, 16, True, ["x"] * 16, bytearray(16))),
]
RIGHT = [  # option, value, attribute, and what it is then
    *(("algorithm", law, "law", law) for law in ("gcra", "fixed_window", "sliding_window", "sliding_log")),
    ("algorithm", "token_bucket", "law", "gcra"),
    *(("concurrency", value, "concurrency", value) for value in (None, 1, 3, 10_000_000)),
    *(("slot_lease", value, "slot_lease_us", us) for value, us in ((1, 10**6), ("250ms", 250_000), (timedelta(minutes=1), 60 * 10**6))),
    ("slot_lease", 0.000_1, "slot_lease_us", 1000),  # up to whole milliseconds
    *(("on_outage", value, "on_outage", value) for value in ("open", "closed", "local")),
    *(("local_share", value, "local_share", value) for value in (0.1, 1, 1.0, 0.001)),
    *(("shadow", value, "shadow", value) for value in (True, False)),
    *(("exempt", value, "exempt", None) for value in (None,)),
    *(("rate_for", value, "rate_for", value) for value in (None, PlainCallable(), str.upper, functools.partial(max, "a"))),
    *(("remember", value, "remember", value) for value in (0, 1, 10_000_000)),
    *(("lease", value, "lease", value) for value in (None, 2, 100)),
    *(("lease_for", value, "lease_for", value) for value in (0.5, 2.0)),
    ("lease_for", "250ms", "lease_for", 0.25),
    ("secret", None, "secret", b""),
    ("secret", "x" * 16, "secret", b"x" * 16),
    ("secret", b"x" * 64, "secret", b"x" * 64),
    ("secret", "é" * 8, "secret", "é".encode() * 8),
]
DEFAULTS = {
    "law": "gcra",
    "concurrency": None,
    "slot_lease_us": 30_000_000,
    "on_outage": "open",
    "local_share": 0.1,
    "shadow": False,
    "exempt": None,
    "rate_for": None,
    "remember": 10_000,
    "lease": None,
    "lease_for": 1.0,
    "secret": b"",
}


def options(rate="100/minute", name="limit", **given_):
    return Options(name, rate, given_)


def test_every_option_is_tried():
    names = set(LimitOptions.__annotations__)
    assert {option for option, _ in WRONG} == names
    assert {option for option, *_ in RIGHT} == names
    assert {attribute for _, _, attribute, _ in RIGHT} == set(DEFAULTS)


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_a_wrong_value_is_refused_and_the_option_named(option, value):
    with pytest.raises((SettingsError, InvalidDuration)) as caught:
        options(**{option: value})
    assert option in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("option", "value", "attribute", "expected"), RIGHT)
def test_a_right_value_is_taken(option, value, attribute, expected):
    assert getattr(options(**{option: value}), attribute) == expected


def test_what_is_not_told_is_the_default():
    read = options()
    assert {attribute: getattr(read, attribute) for attribute in DEFAULTS} == DEFAULTS
    assert (read.name, read.rates) == ("limit", (Rate(100, 60),))


def test_what_is_given_is_left_as_it_is():
    given_ = {"algorithm": "fixed_window", "secret": SECRET}
    Options("limit", "5/second", given_)
    assert given_ == {"algorithm": "fixed_window", "secret": SECRET}


@pytest.mark.parametrize("unknown", ["rate_limit", "Algorithm", "burst", "ttl", "name_"])
@pytest.mark.parametrize("kind", [Forebay, AsyncForebay])
def test_an_unknown_option_is_a_type_error(kind, unknown):
    bay = kind("redis://127.0.0.1:1")
    with pytest.raises(TypeError, match=f"limiter\\(\\) has no option '{unknown}'; there are: algorithm, concurrency, ") as caught:
        bay.limiter("limit", "5/second", **{unknown: 1})
    assert all(option in str(caught.value) for option in LimitOptions.__annotations__)


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "by-address", "7", "x" * 64])
def test_a_name(name):
    assert options(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:b", "a{b", "a}b", "a/b", "a*", "ä", "７", "a\n", "\n", "a\0", "-", "._-", "x" * 65, None, 7, b"a", True, ["a"]],
)
def test_what_is_no_name(name):
    with pytest.raises(InvalidNamespace, match=re.escape(f"limiter {name!r} cannot be called so: letters, digits")):
        options(name=name)


@pytest.mark.parametrize("law", ["fixed_window", "sliding_window", "sliding_log"])
@pytest.mark.parametrize("rate", ["100/minute burst 20", Rate(100, 60, burst=200), "10/second, 100/minute burst 20", Rate.bucket(5, "1/s")])
def test_a_burst_is_for_gcra_alone(law, rate):
    with pytest.raises(InvalidRate, match=f"has a burst of its own, which {law} knows nothing of: use algorithm='gcra'"):
        options(rate, algorithm=law)
    assert options(rate).rates == options(rate, algorithm="token_bucket").rates == rates_of(rate)
    assert options("100/minute burst 100", algorithm=law).rates == (Rate(100, 60),), "which is no burst of its own"


def test_what_a_sliding_window_cannot_count_exactly():
    for rate in ("1000000/day", "10/second, 1000000/day"):
        with pytest.raises(InvalidRate, match=r"^1000000/day is more than sliding_window can count exactly: use algorithm='gcra'"):
            options(rate, algorithm="sliding_window")
        for law in ("gcra", "fixed_window", "sliding_log"):
            assert options(rate, algorithm=law).rates == rates_of(rate)
    most = (EXACT // 2 - 1) // 86_400_000_000
    assert options(Rate(most, "1d"), algorithm="sliding_window").rates[0].limit == most
    with pytest.raises(InvalidRate):
        options(Rate(most + 1, "1d"), algorithm="sliding_window")


@pytest.mark.parametrize("rate", ["", "100", "100/fortnight", 5, [], "0/second"])
def test_a_rate_that_cannot_be_read(rate):
    with pytest.raises(InvalidRate):
        options(rate)


def test_a_limiter_limits_something():
    with pytest.raises(
        SettingsError, match=r"^limiter 'limit' limits nothing: give a rate, as in limiter\('limit', '100/minute'\), or conc"
    ):
        options(None)
    assert options(None, concurrency=3).rates == ()


@pytest.mark.parametrize(
    ("rate", "lease", "least"),
    [
        ("10/second", 11, "10/second"),
        ("100/second burst 5", 6, "100/second burst 5"),
        ("10/second, 1000/hour", 11, "10/second"),
        ("100/second, 50/hour", 51, "50/hour"),
        ("100/second, 50/hour, 70/day", 51, "50/hour"),
    ],
)
def test_a_lease_above_the_burst_is_refused(rate, lease, least):
    with pytest.raises(SettingsError, match=f"^lease={lease} is more than {least} lets through at once"):
        options(rate, lease=lease)
    assert options(rate, lease=lease - 1).lease == lease - 1


@pytest.mark.parametrize("option", ["exempt", "rate_for"])
@pytest.mark.parametrize("function", ASYNC)
def test_an_async_function_is_refused(option, function):
    with pytest.raises(SettingsError, match=f"^{option} is async, and asked in every decision: make it a plain, quick function"):
        options(**{option: function})


def test_who_is_exempt():
    read = options(exempt={"me", 7, UNIQUE})
    assert all(map(read.exempt, ("me", 7, "7", UNIQUE, str(UNIQUE))))
    assert not any(map(read.exempt, ("you", 8, "", "ME", UUID(int=1))))
    for collection in ([], (), frozenset(), {}):
        assert not options(exempt=collection).exempt("me")
    asked = options(exempt=PlainCallable())
    assert asked.exempt("me")
    assert not asked.exempt("you")


def test_exempt_keys_are_those_that_were_given():
    keys = ["me"]
    read = options(exempt=keys)
    keys.append("you")
    assert not read.exempt("you")


@pytest.mark.parametrize(
    ("secret", "taken"),
    [("é" * 7, False), ("é" * 7 + "xx", True), ("é" * 32, True), ("é" * 32 + "x", False), ("☃" * 21, True), ("☃" * 22, False)],
)
def test_a_secret_is_measured_in_bytes(secret, taken):
    if taken:
        assert options(secret=secret).secret == options(secret=secret.encode()).secret == secret.encode()
        return
    with pytest.raises(SettingsError, match="^secret must be text or bytes of 16 to 64 bytes$") as caught:
        options(secret=secret)
    assert secret not in str(caught.value)


def test_a_secret_that_is_no_text():
    """Half of a surrogate pair has no bytes."""
    with pytest.raises(ForebayError, match="secret"):
        options(secret="\ud800" * 16)


@pytest.mark.parametrize("kind", [Forebay, AsyncForebay])
@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()])
def test_nothing_shows_a_secret(kind, secret):
    bay = kind("redis://127.0.0.1:1")
    limiter = bay.limiter("limit", "5/second", secret=secret)
    core = getattr(limiter, "_core", limiter)
    for shown in (limiter, core, core.policy, core.policy.options, core.policy.names, bay, bay.stats()):
        assert SECRET not in repr(shown)
        assert SECRET not in str(shown)
    assert "'limit'" in repr(limiter)
    assert "5/second" in repr(limiter)


@given(limit=st.integers(1, 10**6), period=st.integers(1000, 366 * 86_400_000_000), burst=st.integers(1, 10**7), share=st.floats(0.0001, 1))
@example(limit=19, period=366 * 86_400_000_000, burst=190, share=0.1)
@example(limit=1, period=1000, burst=1, share=0.1)
def test_the_share_of_any_rate_is_a_rate(limit, period, burst, share):
    """And is never asked for until the server is away, when it is too late to refuse it."""
    try:
        rate = Rate.of_us(limit, period, burst)
    except InvalidRate:
        assume(False)
    (local,) = options(rate, local_share=share).local_of((rate,))
    assert local.period_us == period
    assert 1 <= local.limit <= max(1, limit * share)
    assert 1 <= local.burst <= max(1, burst * share)
