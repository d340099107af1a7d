"""A rate is what its text says, or an error that shows the place; it does not change, and its own text gives it back."""

import copy
import pickle
import re
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay import ForebayError, InvalidRate, Rate
from forebay.ratelimit.rate import EXACT, pack_rates, rates_of, stored_rates

US = 1_000_000
DAY = 86_400 * US
LONGEST = 366 * DAY
NAMES = {
    1: ("s", "sec", "second", "seconds"),
    60: ("m", "min", "minute", "minutes"),
    3600: ("h", "hour", "hours"),
    86_400: ("d", "day", "days"),
    604_800: ("w", "week", "weeks"),
}
FORMS = [
    *((f"100/{name}", [(100, seconds * US, 100)]) for seconds, names in NAMES.items() for name in names),
    ("100/MINUTE", [(100, 60 * US, 100)]),
    ("5/250ms", [(5, 250_000, 5)]),
    ("5/1h30m", [(5, 5400 * US, 5)]),
    ("5/2.5s", [(5, 2_500_000, 5)]),
    ("5/90", [(5, 90 * US, 5)]),
    ("5/1ms", [(5, 1000, 5)]),
    ("1/366d", [(1, LONGEST, 1)]),
    (" 100 / minute ", [(100, 60 * US, 100)]),
    ("100/minute burst 20", [(100, 60 * US, 20)]),
    ("  100/minute   burst   20  ", [(100, 60 * US, 20)]),
    ("100/minute burst 200", [(100, 60 * US, 200)]),
    ("007/second burst 05", [(7, US, 5)]),
    ("10/second, 1000/hour", [(10, US, 10), (1000, 3600 * US, 1000)]),
    ("1000/hour,10/second", [(10, US, 10), (1000, 3600 * US, 1000)]),  # the shortest period first
    ("10/second burst 3 , 1000/hour burst 50", [(10, US, 3), (1000, 3600 * US, 50)]),
    (",".join(f"1/{n}s" for n in range(1, 9)), [(1, n * US, 1) for n in range(1, 9)]),
]
UNREADABLE = [  # text, where, and what stands there
    ("", 0, ""),
    ("   ", 3, ""),
    ("minute", 0, "minute"),
    ("/minute", 0, "/minute"),
    ("-1/minute", 0, "-1/minute"),
    ("+1/minute", 0, "+1/minute"),
    ("１００/minute", 0, "１００/minute"),
    ("٣/minute", 0, "٣/minute"),
    ("a lot/minute", 0, "a lot/minute"),
    ("100", 3, ""),
    ("1_000/minute", 1, "_000/minute"),
    ("1.5/minute", 1, ".5/minute"),
    ("1e3/minute", 1, "e3/minute"),
    ("100 per minute", 3, "per minute"),
    ("100minute", 3, "minute"),
    ("100:60", 3, ":60"),
    ("100/", 4, ""),
    ("100/fortnight", 4, "fortnight"),
    ("100/mins", 4, "mins"),
    ("100/-1s", 4, "-1s"),
    ("100/0", 4, "0"),
    ("100/0s", 4, "0s"),
    ("100/nan", 4, "nan"),
    ("100/inf", 4, "inf"),
    ("100/1..5s", 4, "1..5s"),
    ("100/１s", 4, "１s"),
    ("100/" + "9" * 5000 + "s", 4, "9" * 5000 + "s"),
    ("100/1_0s", 5, "_0s"),
    ("100/minute burst", 11, "burst"),
    ("100/minute burst -1", 11, "burst -1"),
    ("100/minute burst 1_0", 18, "_0"),
    ("100/minute burst ２", 11, "burst ２"),
    ("100/minute burst 20 burst 30", 20, "burst 30"),
    ("100/minute BURST 20", 11, "BURST 20"),
    ("100/minute; 5/second", 10, "; 5/second"),
    ("100/minute,", 11, ""),
    (",100/minute", 0, ""),
    ("100/minute,,5/second", 11, ""),
    ("10/second, 100/fortnight", 15, "fortnight"),
    ("10/second, x/hour", 11, "x/hour"),
    ("10/second\n1/hour", 10, "1/hour"),
]
OUT_OF_RANGE = [  # text, where its part begins, and what is wrong
    ("0/minute", 0, "limit=0"),
    ("100/minute burst 0", 0, "burst=0"),
    ("10/second, 0/minute", 10, "limit=0"),
    ("5/0.5ms", 0, "not between a millisecond and 366 days"),
    ("5/0.0001s", 0, "not between a millisecond and 366 days"),
    ("5/367d", 0, "not between a millisecond and 366 days"),
    ("5/53w", 0, "not between a millisecond and 366 days"),
    ("94906266/second", 0, "more than can be counted exactly"),
    (f"{2**53}/second burst 1", 0, "more than can be counted exactly"),
    (f"1/second burst {2**53}", 0, "more than can be counted exactly"),
    ("9" * 5000 + "/second", 0, "more than can be counted exactly"),
    ("1/second burst " + "9" * 5000, 0, "more than can be counted exactly"),
    ("1/366d burst 11", 0, "more than can be counted exactly"),
]


def keys(rates):
    return [(rate.limit, rate.period_us, rate.burst) for rate in rates]


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_every_form(text, expected):
    assert keys(rates_of(text)) == expected


@pytest.mark.parametrize(("text", "at", "what"), UNREADABLE)
def test_what_cannot_be_read_is_shown_with_its_place(text, at, what):
    with pytest.raises(InvalidRate) as caught:
        rates_of(text)
    message = str(caught.value)
    assert repr(text) in message
    assert f": at {at}, {what!r} " in message
    assert "write '100/minute'" in message


@pytest.mark.parametrize(("text", "at", "what"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_shown_with_its_place(text, at, what):
    with pytest.raises(InvalidRate, match=re.escape(f"{text!r}, at {at}: ")) as caught:
        rates_of(text)
    assert what in str(caught.value)


def test_a_number_is_read_to_its_end():
    """However many zeros stand before it."""
    assert keys(rates_of("0" * 30 + "100/second burst " + "0" * 30 + "20")) == [(100, US, 20)]


@given(st.text(alphabet="0123456789/ ,.smhdwburst_-½²٣１", max_size=24))
def test_any_text_is_a_rate_or_an_invalid_rate(text):
    try:
        rates = rates_of(text)
    except InvalidRate as error:
        assert repr(text) in str(error) or "have the same period" in str(error)
    else:
        assert rates
        assert all(rate.limit * rate.burst < EXACT for rate in rates)


@pytest.mark.parametrize("given_", ["60/minute, 1/m", "1/60s, 2/minute", "1/h, 1/day, 5/3600", [Rate(1, 5), Rate(2, 5)]])
def test_a_period_stands_once(given_):
    with pytest.raises(InvalidRate, match="have the same period: the smaller one is enough"):
        rates_of(given_)


@pytest.mark.parametrize("given_", [[], (), iter(()), [Rate(1, n) for n in range(1, 10)], ",".join(f"1/{n}s" for n in range(1, 10))])
def test_there_are_from_one_to_eight(given_):
    with pytest.raises(InvalidRate, match=r"^(0|9) rates in .*: a limit has from 1 to 8$"):
        rates_of(given_)


@pytest.mark.parametrize("given_", [None, 100, 1.5, b"100/minute", object(), ["100/minute"], [Rate(1, 1), 5], {"a": 1}, (100, 60)])
def test_what_is_no_text_and_no_rate(given_):
    with pytest.raises(InvalidRate, match="is no rate|is no Rate"):
        rates_of(given_)


def test_rates_are_taken_as_they_are():
    one, other = Rate(1, "1h"), Rate(2, "1m", burst=9)
    assert rates_of(one) == (one,)
    assert rates_of(rate for rate in (one, other)) == (other, one)


@pytest.mark.parametrize("per", [60, 60.0, "60", "1m", "60s", timedelta(minutes=1)])
def test_a_period_is_any_duration(per):
    rate = Rate(100, per)
    assert (rate.limit, rate.per, rate.period_us, rate.burst) == (100, 60.0, 60 * US, 100)
    assert rate == Rate.of_us(100, 60 * US) == rates_of("100/minute")[0]


@pytest.mark.parametrize(
    "per",
    [0, -1, "", "soon", None, True, float("nan"), float("inf"), timedelta(0), timedelta(days=-1), [60], pytest.param(10**400, id="huge")],
)
def test_what_is_no_period(per):
    with pytest.raises(InvalidRate, match="is no period"):
        Rate(1, per)


@pytest.mark.parametrize("per", [0.000_999, "0.5ms", timedelta(microseconds=999), timedelta(days=366, microseconds=1), "53w"])
def test_a_period_is_from_a_millisecond_to_366_days(per):
    with pytest.raises(InvalidRate, match="is not between a millisecond and 366 days"):
        Rate(1, per)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True, False, float("nan")])
@pytest.mark.parametrize("name", ["limit", "burst"])
def test_what_is_no_number_is_named(name, value):
    if (name, value) == ("burst", None):
        assert Rate(5, 60, None).burst == 5
        return
    with pytest.raises(InvalidRate, match=f"^{name}={re.escape(repr(value))} is no number from 1 on"):
        Rate(**{"limit": 1, "per": 60, "burst": 1, name: value})


def test_all_that_can_be_counted_exactly_is_taken_and_no_more():
    assert Rate(94_906_265, 1).limit == 94_906_265
    assert Rate(EXACT - 1, 1, burst=1).limit == EXACT - 1
    assert Rate(1, "366d", burst=10).burst == 10
    for limit, per, burst in ((94_906_266, 1, None), (EXACT, 1, 1), (1, "366d", 11), (2**30, 1, 2**23), (10**4000, 1, None)):
        with pytest.raises(InvalidRate, match="more than can be counted exactly"):
            Rate(limit, per, burst)


def test_a_number_too_long_to_be_shown():
    with pytest.raises(ForebayError):  # Python shows no number of more than 4300 digits
        Rate(10**5000, 60)


@st.composite
def rates(draw, unit=1):
    period = draw(st.one_of(st.integers(1000, LONGEST), st.sampled_from([US, 60 * US, DAY, 30 * DAY, LONGEST])))
    period = max(1000, period // unit * unit)
    limit = draw(st.integers(1, 10**6))
    most = min((EXACT - 1) // limit, 10 * LONGEST * limit // period)
    burst = draw(st.one_of(st.just(limit), st.integers(1, most)))
    return Rate.of_us(limit, period, burst if limit * burst < EXACT else limit)


@given(rate=rates(unit=1000))
@example(Rate(1000, "30d"))
@example(Rate(1, "366d"))
@example(Rate(1, 100_000.5))
@example(Rate.of_us(7, 1_234_567_000))
def test_its_text_gives_it_back(rate):
    assert rates_of(str(rate)) == (rate,)


@given(rate=rates(unit=1000))
@example(Rate(1000, "30d"))
def test_its_repr_gives_it_back(rate):
    assert eval(repr(rate), {"Rate": Rate}) == rate  # noqa: S307


@given(rate=rates(), other=rates())
def test_rates_are_equal_if_all_their_numbers_are(rate, other):
    assert (rate == other) == ((rate.limit, rate.period_us, rate.burst) == (other.limit, other.period_us, other.burst))
    same = Rate.of_us(rate.limit, rate.period_us, rate.burst)
    assert rate == same
    assert hash(rate) == hash(same)
    assert len({rate, same, other}) == (1 if rate == other else 2)
    assert rate != rate.key
    assert rate != str(rate)


@given(several=st.lists(rates(), min_size=1, max_size=4))
def test_what_is_stored_for_a_key_gives_them_back(several):
    assert stored_rates(pack_rates(several).encode()) == tuple(several)


@pytest.mark.parametrize(
    ("rate", "text", "shown"),
    [
        (Rate(100, 60), "100/minute", "Rate(100, per=60)"),
        (Rate(100, 60, 20), "100/minute burst 20", "Rate(100, per=60, burst=20)"),
        (Rate(5, 0.25), "5/250ms", "Rate(5, per=0.25)"),
        (Rate(1, "1w"), "1/week", "Rate(1, per=604800)"),
        (Rate(2, 90), "2/90s", "Rate(2, per=90)"),
    ],
)
def test_how_it_is_shown(rate, text, shown):
    assert str(rate) == text
    assert repr(rate) == shown


@pytest.mark.parametrize("name", ["limit", "burst", "period_us", "per", "key", "anything"])
def test_it_does_not_change(name):
    rate = Rate(100, 60, 20)
    with pytest.raises(AttributeError, match=f"does not change: make another one with {name}=5"):
        setattr(rate, name, 5)
    with pytest.raises(AttributeError):
        delattr(rate, name)
    assert rate == Rate(100, 60, 20)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda rate: pickle.loads(pickle.dumps(rate))])  # noqa: S301
def test_it_can_be_copied_and_sent_to_another_process(again):
    assert again(Rate(100, 60, 20)) == Rate(100, 60, 20)


def test_a_bucket_is_a_rate_with_its_capacity_for_a_burst():
    assert Rate.bucket(20, "100/minute") == Rate(100, 60, burst=20)
    assert Rate.bucket(500, Rate(100, 60)) == Rate(100, 60, burst=500)
    assert Rate.bucket(20, "100/minute burst 7") == Rate(100, 60, burst=20)
    assert Rate.bucket(100, "100/minute") == Rate(100, 60)


@pytest.mark.parametrize(
    ("capacity", "refill", "what"),
    [
        (0, "1/s", "burst=0"),
        (1.5, "1/s", "burst=1.5"),
        (True, "1/s", "burst=True"),
        (5, "1/s, 2/m", "has 2 rates: one is wanted here"),
        (5, "1/fortnight", "fortnight"),
        (5, None, "is no rate"),
        (2**53, "1/s", "more than can be counted exactly"),
    ],
)
def test_what_is_no_bucket(capacity, refill, what):
    with pytest.raises(InvalidRate, match=re.escape(what)):
        Rate.bucket(capacity, refill)
