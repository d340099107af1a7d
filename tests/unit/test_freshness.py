"""When a value is good for what, as plain arithmetic: against the formula of XFetch, and a plain model of the windows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import InvalidDuration, MissingTTL, SettingsError
from forebay.cache.entry import NOBODY, Entry
from forebay.cache.freshness import Freshness, Verdict, judge, lifetime

windows = st.sampled_from([0.0, 1000.0, 60_000.0])


def entry(fresh_until, load_ms=0.0):
    return Entry(NOBODY, 0.0, fresh_until, load_ms, bytes(8), (), b"1", b"")


@given(now=st.integers(0, 200_000), revalidate=windows, on_error=windows)
def test_a_value_is_fresh_then_refreshed_then_for_errors_then_spent(now, revalidate, on_error):
    freshness = Freshness(ttl=50_000.0, stale_while_revalidate=revalidate, stale_if_error=on_error)
    if now < 50_000:
        expected = Verdict.FRESH
    elif now - 50_000 < revalidate:
        expected = Verdict.REFRESH
    elif now - 50_000 < max(revalidate, on_error):
        expected = Verdict.STALE
    else:
        expected = Verdict.SPENT
    assert judge(entry(50_000.0), freshness, float(now), 1.0) is expected


@given(left=st.floats(1, 1e6), load_ms=st.floats(0, 1e5), beta=st.floats(0.01, 10), draw=st.floats(0, 1, exclude_min=True))
def test_early_refresh_is_the_formula_of_xfetch(left, load_ms, beta, draw):
    """Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015."""
    verdict = judge(entry(left, load_ms), Freshness(ttl=1e6, early_refresh=beta), 0.0, draw)
    assert verdict is (Verdict.REFRESH if -load_ms * beta * math.log(draw) >= left else Verdict.FRESH)


def test_what_lives_for_ever_is_never_refreshed_early():
    assert judge(entry(math.inf, 1e9), Freshness(ttl=math.inf, early_refresh=10.0), 1e15, 1e-300) is Verdict.FRESH


@given(ttl=st.integers(1, 10**9), jitter=st.floats(0, 1), draw=st.floats(0, 1), grace=windows)
def test_jitter_only_shortens_and_what_is_kept_is_kept_for_the_windows(ttl, jitter, draw, grace):
    freshness = Freshness(ttl=float(ttl), jitter=jitter, stale_if_error=grace)
    fresh, kept = lifetime(float(ttl), freshness, draw)
    assert max(1.0, ttl * (1 - jitter)) - 1e-6 <= fresh <= ttl
    assert kept == max(1, int(fresh + grace))


def test_for_ever_is_for_ever():
    assert lifetime(math.inf, Freshness(jitter=0.5, stale_if_error=5.0), 0.5) == (math.inf, None)


def test_none_has_a_ttl_of_its_own():
    freshness = Freshness().having({"ttl": "15m", "none_ttl": "30s"})
    assert freshness.ttl_for(1, "c") == 900_000
    assert freshness.ttl_for(None, "c") == 30_000
    assert Freshness().having({"ttl": "15m"}).ttl_for(None, "c") == 900_000
    assert Freshness().having({"ttl": None}).ttl_for(1, "c") == math.inf
    with pytest.raises(MissingTTL, match="cache 'c' has no ttl"):
        Freshness().ttl_for(1, "c")


REFUSED = {
    "negative ttl": ({"ttl": -1}, InvalidDuration, "-1"),
    "no stale window": ({"stale_if_error": None}, SettingsError, "stale_if_error=None"),
    "jitter above 1": ({"jitter": 1.5}, SettingsError, "jitter=1.5"),
    "jitter as text": ({"jitter": "some"}, SettingsError, "jitter='some'"),
    "early_refresh below 0": ({"early_refresh": -1.0}, SettingsError, "early_refresh=-1.0"),
    "sliding with jitter": ({"sliding": True, "jitter": 0.1}, SettingsError, "sliding=True"),
    "sliding with stale copies": ({"sliding": True, "stale_if_error": 5}, SettingsError, "sliding=True"),
    "soft beyond hard": ({"soft_timeout": 5, "hard_timeout": 2, "stale_if_error": 9}, SettingsError, "soft_timeout=5"),
    "soft and nothing stale": ({"soft_timeout": 1}, SettingsError, "soft_timeout returns the stale value"),
    "unknown": ({"tll": 5}, TypeError, "no option 'tll'"),
}


@pytest.mark.parametrize(("options", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_by_name(options, error, text):
    with pytest.raises(error, match=text):
        Freshness().having(options)
