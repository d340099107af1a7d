"""Every number of every verdict is the exact one, on a real server: whatever is hit, whenever, and however limits and clocks change.

The scripts are the real ones, but for two things that the test holds in its hand: what time it is, and that no key ends of itself while
the time that the test gives out runs faster than the server's own. Where lifetimes are the question, they are the script's.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay import EmbeddedServer, Forebay, InvalidRate, LimitUnreadable
from forebay.ratelimit.algorithms import LAW
from forebay.ratelimit.options import check_rates
from forebay.ratelimit.rate import EXACT, Rate, pack_rates, rates_of
from forebay.ratelimit.scripts import LAWS, LETTERS
from tests.limit_models import LONGER, MODELS, Judgement, Key, Twins, charge, in_full, paces

DAY = 86_400_000_000
NOWS = st.one_of(st.integers(1_700_000_000_000_000, 1_900_000_000_000_000), st.integers(0, 1000).map(lambda n: EXACT - 3650 * DAY - n))
ALL = ("7/second", "3/100ms", "1000000/day", "999983/hour", "1/366d", "10/second, 100/minute", "3/100ms, 7/second, 999983/hour")
EXTREMES = ("9007199254740991/second burst 1", "94906265/366d", "1000000/1ms burst 9007199254", "1/366d burst 3")
BURSTS = ("999983/hour burst 17", "10/second burst 25, 1000/hour", "7/second burst 2, 1000003/day burst 400")
POLICIES = {
    "gcra": ALL + BURSTS + EXTREMES,
    "fixed_window": ALL,
    "sliding_window": tuple(each for each in ALL if each != "1000000/day"),
    "sliding_log": ALL,
}
ANY = st.sampled_from([(law, rates) for law in LAWS for rates in POLICIES[law]])
COMMON = st.sampled_from([("gcra", rates) for rates in ("10/second", "100/minute", "10/second, 100/minute")])
COSTS = st.one_of(st.integers(1, 3), st.sampled_from(["all", "all", "half", "left", "left and one"]))
ADVANCES = st.one_of(
    st.just(("us", 0)),
    st.tuples(st.just("us"), st.integers(0, 2000)),
    st.tuples(st.sampled_from(["unit", "eighth", "eighth of the longest", "window"]), st.integers(0, 20)),
    st.tuples(st.sampled_from(["retry", "reset"]), st.integers(-1, 1)),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hit", "hit", "hit", "hit", "peek", "change", "back", "change and back"]), COSTS, ADVANCES, st.integers(0, 6)
    ),
    min_size=1,
    max_size=18,
)
FORWARD = st.lists(st.tuples(COSTS, ADVANCES), max_size=8)
CHANGES = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (1, 1, 1), (7, 3, 1), (1, 1, -1), (0, 1, 1)]  # of a limit: by how much, and plus
many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
by_law = pytest.mark.parametrize("law", LAWS)


def changed(rates: tuple[Rate, ...], law: Any, which: int) -> tuple[Rate, ...]:
    """Return *rates* with other limits, as far as *law* takes them."""
    times, by, plus = CHANGES[which]
    made = []
    for rate in rates:
        limit = max(1, rate.limit * times // by + plus)
        burst = limit if rate.burst == rate.limit else max(1, rate.burst + (which - 3))
        try:
            made += check_rates((Rate.of_us(limit, rate.period_us, burst),), law)
        except InvalidRate:
            made.append(rate)
    return tuple(made)


def as_bad_as_can_be(law: str, rate: Rate, cost: int) -> tuple[int, int]:
    """Return after how long *cost* would pass, and all be free, at the latest if all was used up for one burst or window."""
    if law == "gcra":
        return ceil(cost * rate.period_us / rate.limit) + 1, ceil(rate.burst * rate.period_us / rate.limit) + 1
    windows = 2 if law == "sliding_window" else 1  # the present one, and what the next sees of it
    return windows * rate.period_us, windows * rate.period_us


def agree(key: Key, judged: Judgement, cost: int, at: int, now: int) -> None:
    """The plain functions find at *now* what the server does, from the state that was read *at* a time."""
    rules = LAW[key.law]
    stored = key.stored()
    for rate, found in zip(key.rates, judged.found, strict=True):
        assert rules.judge(rules.read(stored, rate, at, max(each.period_us for each in key.rates)), rate, cost, now) == (
            found.retry == 0,
            found.remaining,
            found.retry,
            found.reset,
        )


@by_law
@given(data=st.data(), now=NOWS, steps=STEPS)
@settings(many, max_examples=300)
def test_verdicts_are_the_models(sync_bay, law, data, now, steps):
    rates = rates_of(data.draw(st.sampled_from(POLICIES[law])))
    key, model = Key(sync_bay, law, rates), MODELS[law](paces(rates))
    latest = now
    for kind, size, advance, which in steps:
        if kind.endswith("back"):
            now -= key.after(advance, now) - now
        else:
            now = key.after(advance, now)
        if kind.startswith("change"):
            key.rates = changed(key.rates, law, which)
            model.paces = paces(key.rates)
        cost = key.of_size(size, now)
        judged = key.judge("peek" if kind == "peek" else "hit", cost, now)
        assert judged == (model.peek if kind == "peek" else model.hit)(cost, now)
        for rate, found in zip(key.rates, judged.found, strict=True):
            retry, reset = as_bad_as_can_be(law, rate, cost)
            assert found.retry <= retry
            assert found.reset <= reset
        latest = now if kind != "peek" else max(now, latest)
        if sync_bay.execute("EXISTS", key.name):
            assert sync_bay.execute("PTTL", key.name) > LONGER / 2
        # After a hit all is in order, and the functions may look ahead; else they look at once. A log whose last hit is yet to come
        # has a test of its own.
        if kind != "peek" or law != "sliding_log" or now >= latest:
            later = now if kind == "peek" else key.after(("eighth", which), now)
            other = key.of_size("half", later)
            agree(key, key.judge("peek", other, later), other, now, later)


@pytest.mark.parametrize(("old", "new"), [("1000000/d", "2000000/d"), ("999983/d", "1000000/d"), ("94906265/366d", "94906264/366d")])
@pytest.mark.parametrize("part", [1, 2, 3, 1000])
def test_as_many_units_are_used_at_another_pace(sync_bay, old, new, part):
    """Also where their number times the period is more than a double holds exactly."""
    key, now = Key(sync_bay, "gcra", rates_of(old)), 1_800_000_000_123_456
    model, used = MODELS["gcra"](paces(key.rates)), key.rates[0].burst // part
    assert key.judge("hit", used, now) == model.hit(used, now)
    key.rates, model.paces = rates_of(new), paces(rates_of(new))
    for mode, later in (("peek", now), ("hit", now + 12_345), ("peek", now + 12_345)):
        assert key.judge(mode, 1, later) == (model.peek if mode == "peek" else model.hit)(1, later)


@by_law
@pytest.mark.parametrize("used", [0, 1, 7])
def test_a_cost_above_the_burst_never_passes_and_is_said_to(sync_bay, law, used):
    """On a key that has used nothing, something and everything, and also where only one of several rates cannot hold it."""
    now = 1_800_000_000_123_456
    for rates, cost in (("7/second", 8), ("7/second, 100/minute", 8), ("7/second", 10**6)):
        key = Key(sync_bay, law, rates_of(rates))
        if used:
            assert key.judge("hit", used, now).passes == 1
        before = key.judge("peek", 1, now)
        for mode in ("peek", "hit"):
            judged = key.judge(mode, cost, now)
            assert judged.passes == -1
            assert [found.remaining for found in judged.found] == [found.remaining for found in before.found]
        assert key.judge("peek", 1, now) == before, "nothing was charged"


@given(data=st.data(), now=NOWS, wanted=st.one_of(st.lists(ANY, min_size=1, max_size=3), st.lists(COMMON, min_size=1, max_size=2)))
@settings(many, max_examples=400)
def test_records_of_one_call_are_decided_one_after_the_other(sync_bay, data, now, wanted):
    """Each is about one or several policies, all or nothing, and a policy in shadow refuses nobody. Some keys stand in several records."""
    laws, every = [law for law, _ in wanted], [rates_of(rates) for _, rates in wanted]
    shadow = [data.draw(st.sampled_from([False, False, True])) for _ in laws]
    letters = "".join(LETTERS[law].upper() if shaded else LETTERS[law] for law, shaded in zip(laws, shadow, strict=True))
    kept = [[(Key(sync_bay, *both), MODELS[both[0]](paces(both[1]))) for both in zip(laws, every, strict=True)] for _ in range(3)]
    for _ in range(data.draw(st.integers(1, 4))):
        now = kept[0][0][0].after(data.draw(ADVANCES), now)
        mode = data.draw(st.sampled_from(["hit", "hit", "hit", "peek"]))
        costs = [data.draw(st.sampled_from([1, 2, 3, 4, max(1, rates[0].burst // 2)])) for rates in every]
        records = data.draw(st.lists(st.sampled_from(kept), min_size=1, max_size=4))
        names = [name for record in records for key, _ in record for name in (key.name, key.own)]
        words = [word for cost, rates in zip(costs, every, strict=True) for word in (cost, pack_rates(rates))]
        replies = sync_bay.execute("EVAL", kept[0][0][0].text, len(names), *names, mode, letters, *words, now // 10**6, now % 10**6)
        for record, reply in zip(records, replies, strict=True):
            judged = [model.peek(cost, now) for (_, model), cost in zip(record, costs, strict=True)]
            if mode == "hit" and all(one.passes == 1 or (one.passes == 0 and shaded) for one, shaded in zip(judged, shadow, strict=True)):
                judged = [model.hit(cost, now) for (_, model), cost in zip(record, costs, strict=True)]
            said = [reply] if len(laws) == 1 else reply
            assert [key.judgement(in_full(one, now), cost) for (key, _), one, cost in zip(record, said, costs, strict=True)] == judged


@given(steps=st.lists(st.integers(1, 7), min_size=1, max_size=4), back=st.integers(1, 3_000_000), cost=st.integers(1, 7))
@many
def test_the_functions_agree_about_a_log_whose_last_hit_is_yet_to_come(sync_bay, steps, back, cost):
    """The clock was set back between a refusal and the reading of what refused, and a process remembers no more than the server would."""
    key, now = Key(sync_bay, "sliding_log", rates_of("7/second")), 1_800_000_000_000_000
    for size in steps:
        key.judge("hit", size, now)
        now += 90_000
    agree(key, key.judge("peek", cost, now - back), cost, now - back, now - back)


@by_law
@given(data=st.data(), now=NOWS, before=FORWARD, size=COSTS, between=FORWARD, meanwhile=ADVANCES)
@many
def test_what_is_given_back_was_never_there(sync_bay, law, data, now, before, size, between, meanwhile):
    """Nothing happened in between but time; to a log, and at the same time to all laws, other hits may have happened as well."""
    twins = Twins(sync_bay, law, rates_of(data.draw(st.sampled_from(POLICIES[law]))))
    for each, advance in before:
        now = twins.with_it.after(advance, now)
        twins.both(each, now)
    cost, mark = charge(twins.with_it, size, now)
    if not cost:
        return
    charged, seen = now, now + twins.with_it.rates[-1].period_us - 1
    at_once = data.draw(st.booleans())
    for each, advance in between if at_once or law == "sliding_log" else ():
        if not at_once:
            now = min(twins.with_it.after(advance, now), seen)  # what is out of sight is not given back
        twins.both(each, now)
    if not at_once and law != "sliding_log":
        now = twins.with_it.after(meanwhile, now)
    twins.with_it.ask("refund", cost, now, mark)
    if law != "gcra" or now == charged:
        twins.same(now)
        return
    # It does not know what would have run out without it, and gives back what must be left: it keeps no more than ran out meanwhile.
    kept = zip(twins.with_it.judge("peek", 1, now).found, twins.without.judge("peek", 1, now).found, strict=True)
    assert all(0 <= one.reset - other.reset <= now - charged + 1 for one, other in kept)


@by_law
@given(data=st.data(), now=NOWS, before=FORWARD, size=COSTS, between=FORWARD)
@many
def test_giving_back_makes_no_more_room_than_there_would_be(sync_bay, law, data, now, before, size, between):
    """Other hits and any time in between: also when what is given back was free again long ago."""
    twins = Twins(sync_bay, law, rates_of(data.draw(st.sampled_from(POLICIES[law]))))
    for each, advance in before:
        now = twins.with_it.after(advance, now)
        twins.both(each, now)
    cost, mark = charge(twins.with_it, size, now)
    for each, advance in between:
        now = twins.with_it.after(advance, now)
        twins.both(each, now)
    if cost:
        twins.with_it.ask("refund", cost, now, mark)
    twins.no_more_room(now)


@by_law
@pytest.mark.parametrize("cost", [1, 3])
def test_what_is_free_again_cannot_be_given_back(sync_bay, law, cost):
    """Another hit of the same size, which came when all was free again, stays charged."""
    twins, now = Twins(sync_bay, law, rates_of("7/second")), 1_800_000_000_000_000
    charged, mark = charge(twins.with_it, cost, now)
    assert charged == cost
    now = twins.with_it.after(("reset", 0), now)
    twins.both(cost, now)
    twins.with_it.ask("refund", cost, now, mark)
    twins.no_more_room(now)


@given(hits=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 300_000)), min_size=3, max_size=7), data=st.data())
@many
def test_several_may_be_given_back_in_any_order(sync_bay, hits, data):
    twins, now, given_back = Twins(sync_bay, "sliding_log", rates_of("20/10s")), 1_800_000_000_000_000, []
    wanted = data.draw(st.sets(st.integers(0, len(hits) - 1), min_size=1, max_size=3))
    for at, (cost, advance) in enumerate(hits):
        now += advance
        if at in wanted:
            given_back.append(charge(twins.with_it, cost, now))
        else:
            twins.both(cost, now)
    for cost, mark in data.draw(st.permutations(given_back)):
        if cost:
            twins.with_it.ask("refund", cost, now, mark)
    twins.same(now)


def server_ms(bay: Forebay) -> int:
    seconds, microseconds = map(int, bay.execute("TIME"))
    return seconds * 1000 + microseconds // 1000


@by_law
@given(data=st.data(), now=NOWS, steps=FORWARD, which=st.integers(0, 6))
@many
def test_a_key_lives_for_as_long_as_it_means_anything(sync_bay, law, data, now, steps, which):
    """By the script's own lifetimes. The server's time goes by as well, so they are those of the last hit that was charged."""
    key = Key(sync_bay, law, rates_of(data.draw(st.sampled_from(POLICIES[law]))), longer=False)
    written = 0
    for at, (size, advance) in enumerate(steps):
        now = key.after(advance, now)
        if at == 5:
            key.rates = changed(key.rates, law, which)
        cost = key.of_size(size, now)
        began = server_ms(sync_bay)
        passes, _, mark, *numbers = key.ask("hit", cost, now)
        written = began if passes == 1 else written
        if at == 3 and passes == 1:
            key.ask("refund", cost, now, mark)
            numbers = [number for found in key.judge("peek", 1, now).found for number in found]
        ends = sync_bay.execute("PEXPIRETIME", key.name)
        assert ends != -1, "a key without a lifetime"
        if ends == -2:  # it has ended by now, or was never there
            ends = server_ms(sync_bay) + 1
        assert ends >= written + ceil(max(numbers[2::3]) / 1000)


@by_law
@pytest.mark.parametrize(
    "text", [b"", b"garbage", b"::", b"1:2", b"1000000:7", b"1000000:7:soon:0", b"-1:-1:-1:-1:", b"\x00\xff", b"nan:inf:0x10:1e3"]
)
def test_a_state_that_cannot_be_read_is_none(sync_bay, law, text):
    if law == "sliding_log" and text in (b"1:2", b"1000000:7"):
        text += b":"  # else it is a hit
    now = 1_800_000_000_123_456
    key, fresh = Key(sync_bay, law, rates_of("7/second")), Key(sync_bay, law, rates_of("7/second"))
    if law == "sliding_log":
        sync_bay.execute("ZADD", key.name, now - 10, text)
    else:
        sync_bay.execute("SET", key.name, text)
    for cost in (1, 7):
        judged = key.judge("peek", cost, now)
        assert judged == fresh.judge("peek", cost, now)
        if law != "sliding_log":  # a process reads what its own hit has left in order
            agree(key, judged, cost, now, now)
    for cost in (3, 4, 1):
        assert key.judge("hit", cost, now + cost) == fresh.judge("hit", cost, now + cost)
    assert sync_bay.execute("PTTL", key.name) > 0


DAMAGED = [
    *(b"", b"nonsense", b"3", b"3:1000000", b"::", b"3:soon:3", b"three:1000000:3", b"\xff:\xff:\xff"),
    *(b"0:1000000:3", b"3:999:3", b"3:1000000:0", b"3:0:3"),
    *(b"3:1000000:3,", b"3:1000000:3,x", b"x3:1000000:3", b"3:1000000:3:3", b"3.5:1000000:3", b"-3:1000000:3"),
]
HUGE = [b"99999999999999999999:1000000:1", b"3:1000000:9999999999999999", b"3:99999999999999999999:3"]


def falls_back(url, prefix, text):  # to the limiter's rates, in what is decided as well as in what is said; and it is reported
    seen = []
    with Forebay(url, prefix=prefix, on_event=seen.append) as bay:
        limiter = bay.limiter("limit", "5/hour", on_outage="closed")
        limiter.set_rates("key", "3/hour", "1m")
        assert limiter.hit("key").limit == 3
        assert limiter.reset("key")
        (name,) = [name for name in bay.execute("KEYS", f"{prefix}*") if name.endswith(b":rates")]
        bay.execute("SET", name, text, "KEEPTTL")
        verdicts = [limiter.hit("key", cost) for cost in (4, 1, 1)]
        assert [(verdict.allowed, verdict.limit, verdict.remaining) for verdict in verdicts] == [(True, 5, 1), (True, 5, 0), (False, 5, 0)]
        assert all(verdict.decided_by in ("server", "memory") for verdict in verdicts)
        assert limiter.rates("key") == rates_of("5/hour")
        assert [type(event) for event in seen[:2]] == [LimitUnreadable, LimitUnreadable]


@pytest.mark.parametrize("text", DAMAGED)
def test_rates_of_its_own_that_are_damaged_fall_back(url, prefix, text):
    falls_back(url, prefix, text)


@pytest.mark.parametrize("text", HUGE)
def test_rates_of_its_own_that_cannot_be_counted_with_fall_back(prefix, text):
    with EmbeddedServer(port=0) as server:  # of its own: a script that counts with them may never end
        falls_back(server.url, prefix, text)
