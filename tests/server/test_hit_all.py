"""Several limits at once, in both colours: all are charged, or none is; and what makes no sense is refused before anything is."""

import pytest

from forebay import InvalidCommand, InvalidCost, InvalidKey, InvalidRate, LimitShadowed, Rate, UsageError
from tests.server.test_limits import LONG, core_of, passes, remembered
from tests.server.test_near import calls, until


def bare(limiter):
    return getattr(limiter, "wrapped", limiter)


async def left(*pairs):
    """How much is left of each limiter and key."""
    return [(await limiter.peek(key)).remaining for limiter, key in pairs]


@pytest.fixture
def hit_all(either):
    """``bay.hit_all`` with the limiters as they are handed out here."""

    async def call(*asks):
        return await either.hit_all([(bare(limiter), *rest) for limiter, *rest in asks])

    return call


@pytest.fixture
def limiters(either):
    """One of each algorithm, of 3 to 6."""
    laws = ("gcra", "fixed_window", "sliding_window", "sliding_log")
    return [either.limiter(law, Rate(3 + number, LONG), algorithm=law) for number, law in enumerate(laws)]


async def test_all_are_charged(hit_all, limiters):
    decision = await hit_all(*((limiter, "ada", 1 + number) for number, limiter in enumerate(limiters)))
    assert decision.allowed
    assert [verdict.policy for verdict in decision.verdicts] == ["gcra", "fixed_window", "sliding_window", "sliding_log"]
    assert [verdict.remaining for verdict in decision.verdicts] == [2, 2, 2, 2]
    assert (decision.policy, decision.limit, decision.remaining, decision.retry_after) == ("gcra", 3, 2, 0.0)
    assert decision.reset_after == max(verdict.reset_after for verdict in decision.verdicts)


@pytest.mark.parametrize("who", range(4))
async def test_none_is_charged_if_one_refuses(either, hit_all, limiters, who):
    await limiters[who].hit("ada", 3 + who)
    before = await left(*((limiter, "ada") for limiter in limiters))
    for _ in range(3):
        decision = await hit_all(*((limiter, "ada", 2) for limiter in limiters))
        assert not decision.allowed
        assert decision.policy == core_of(limiters[who]).name
        assert decision.retry_after == decision.strictest.retry_after > 0
    assert await left(*((limiter, "ada") for limiter in limiters)) == before
    stats = either.stats().limits
    for number, limiter in enumerate(limiters):
        assert stats[core_of(limiter).name].allowed == (number == who), "what was not charged was not allowed"
        assert stats[core_of(limiter).name].refused == (3 if number == who else 0)


async def test_one_script_decides_about_keys_and_limiters(either, hit_all, limiters):
    asks = [(limiter, key) for limiter in limiters for key in ("ada", 42, "bob")]
    await hit_all(*asks)
    await either.execute("CONFIG", "RESETSTAT")
    assert (await hit_all(*asks)).allowed
    assert (await calls(either))["evalsha"] == 1
    assert await left(*asks) == [each for limit in (1, 2, 3, 4) for each in [limit] * 3]


async def test_what_is_asked_twice_adds_up(hit_all, limiters):
    limiter = limiters[0]
    decision = await hit_all((limiter, 42), (limiter, "bob"), (limiter, "42"))
    assert [verdict.remaining for verdict in decision.verdicts] == [1, 2, 1]
    assert not (await hit_all((limiter, 42), (limiter, 42))).allowed
    assert await left((limiter, 42)) == [1]
    with pytest.raises(InvalidCost):
        await hit_all((limiter, "new", 2), (limiter, "new", 2))
    assert await left((limiter, "new")) == [3]


async def test_several_rates_and_rates_of_its_own_count(either, hit_all):
    several = either.limiter("several", [Rate(2, "50d"), Rate(3, LONG)])
    own = either.limiter("own", Rate(1, LONG))
    await own.set_rates("ada", Rate(5, LONG), "1h")
    decision = await hit_all((several, "ada", 2), (own, "ada", 5))
    assert [verdict.remaining for verdict in decision.verdicts] == [0, 0]
    assert [standing.remaining for standing in decision.verdicts[0].standings] == [0, 1]
    assert not (await hit_all((several, "ada"), (own, "bob"))).allowed
    assert await left((own, "bob")) == [1]


async def test_what_cannot_be_is_refused_and_nothing_is_charged(either, hit_all, make_either, url, prefix, limiters):
    first, second = limiters[:2]
    good = (first, "ada")
    for error, bad in (
        (InvalidCost, (second, "ada", 0)),
        (InvalidCost, (second, "ada", True)),
        (InvalidCost, (second, "ada", 5)),
        (InvalidKey, (second, "")),
        (InvalidKey, (second, None)),
        (InvalidRate, (either.limiter("odd", "1/s", rate_for=lambda key: "x"), "ada")),
        (UsageError, (either.limiter("slots", concurrency=1), "ada")),
        (UsageError, (either.limiter("gcra", Rate(9, LONG)), "ada")),
        (UsageError, (make_either(url, prefix=prefix).limiter("gcra", Rate(3, LONG)), "bob")),
    ):
        with pytest.raises(error):
            await hit_all(good, bad)
        with pytest.raises(error):
            await hit_all(bad, good)
    for wrong in ([], [(bare(first),)], [bare(first)], [(bare(first), "k", 1, 1)], [("api", "k")], ["ab"], [None]):
        with pytest.raises(InvalidCommand):
            await either.hit_all(wrong)
    assert await left(good, (second, "ada")) == [3, 4]
    assert {name: each.allowed for name, each in either.stats().limits.items() if each.allowed} == {}


async def test_two_limiters_of_one_name_may_decide_about_different_keys(either, hit_all, limiters):
    twin = either.limiter("gcra", Rate(9, LONG))
    decision = await hit_all((limiters[0], "ada"), (twin, "bob"))
    assert [verdict.remaining for verdict in decision.verdicts] == [2, 8]


async def test_a_refusal_that_is_remembered_answers_for_all(either, hit_all, limiters):
    first, second = limiters[:2]
    await second.hit("ada", 4)

    async def from_memory():
        return (await hit_all((first, "ada"), (second, "ada"))).strictest.decided_by == "memory"

    await until(from_memory)
    await either.execute("CONFIG", "RESETSTAT")
    decision = await hit_all((first, "ada"), (second, "ada"))
    assert (decision.allowed, decision.policy, len(decision.verdicts)) == (False, "fixed_window", 1)
    assert await calls(either) == {}
    assert either.stats().limits["gcra"].allowed == 0
    await second.reset("ada")
    await passes(second, "ada")
    assert (await hit_all((first, "ada"), (second, "ada"))).allowed
    assert await left((first, "ada")) == [2]


async def test_a_cheaper_hit_that_would_pass_is_asked_for(hit_all, limiters):
    first, second = limiters[:2]
    await first.hit("ada", 1)
    await remembered(first, "ada", 3)
    assert (await hit_all((first, "ada", 2), (second, "ada"))).allowed
    assert await left((first, "ada"), (second, "ada")) == [0, 3]


async def test_one_in_shadow_refuses_nobody(make_either, url, prefix):
    events = []
    bay = await make_either(url, prefix=prefix, on_event=events.append).connect()
    shadow, real = bay.limiter("shadow", Rate(1, LONG), shadow=True), bay.limiter("real", Rate(3, LONG))
    asks = [(bare(shadow), "ada"), (bare(real), "ada")]
    decisions = [await bay.hit_all(asks) for _ in range(4)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False]
    shadowed = [[verdict.shadowed for verdict in decision.verdicts] for decision in decisions[:3]]
    assert shadowed == [[False, False], [True, False], [True, False]]
    assert [decision.remaining for decision in decisions[:3]] == [0, 0, 0]
    assert decisions[3].policy == "real"
    assert {(type(event), event.policy) for event in events} == {(LimitShadowed, "shadow")}
    assert bay.stats().limits["real"].allowed == 3


async def test_one_in_shadow_is_not_charged_where_another_refuses(either, hit_all):
    shadow, real = either.limiter("shadow", Rate(5, LONG), shadow=True), either.limiter("real", Rate(1, LONG))
    await real.hit("ada")
    assert not (await hit_all((shadow, "ada"), (real, "ada"))).allowed
    assert await left((shadow, "ada")) == [5]


async def test_who_is_exempt_from_one_is_limited_by_the_others(either, hit_all):
    exempt, real = either.limiter("exempt", Rate(1, LONG), exempt={"ada"}), either.limiter("real", Rate(2, LONG))
    for allowed in (True, True, False):
        decision = await hit_all((exempt, "ada"), (real, "ada"))
        assert decision.allowed is allowed
        assert decision.verdicts[-1].policy == "real"
    alone = await hit_all((exempt, "ada"), (exempt, "ada"))
    assert [verdict.decided_by for verdict in alone.verdicts] == ["exempt", "exempt"]
    assert alone.allowed
    assert await left((real, "ada")) == [0]


async def test_a_limiter_with_a_lease_is_charged_with_the_others(either, hit_all):
    leased, real = either.limiter("leased", Rate(20, LONG), lease=10, lease_for="60s"), either.limiter("real", Rate(1, LONG))
    assert (await leased.hit("ada")).decided_by == "lease"
    assert (await hit_all((leased, "ada"), (real, "ada"))).allowed
    assert await left((leased, "ada"), (real, "ada")) == [9, 0]
    assert not (await hit_all((leased, "ada"), (real, "ada"))).allowed
    assert await left((leased, "ada")) == [9]
