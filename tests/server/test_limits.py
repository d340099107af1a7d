"""Limits in both colours: a refused cost is never charged, what was used stays used, and no key on the server names anybody or stays."""

import logging
import uuid

import pytest
from msgspec.structs import asdict

from forebay import InvalidCost, InvalidKey, InvalidRate, LimitShadowed, LimitUnreadable, Rate, UsageError
from tests.server.test_near import until

ALGORITHMS = ("gcra", "token_bucket", "fixed_window", "sliding_window", "sliding_log")
BAD_KEYS = ("", True, 1.5, None, b"ada", ("a",))
LONG = "100d"  # nothing comes free, and no window ends, while a test runs


def core_of(limiter):
    """The core of a limiter, whatever its colour and however it is wrapped."""
    limiter = getattr(limiter, "wrapped", limiter)
    return getattr(limiter, "_core", limiter)


def names_of(limiter, key):
    """The names on the server of a key's state, and of its own rates."""
    return core_of(limiter).policy.names.of(str(key))


async def remembered(limiter, key, cost=1):
    """Hit until a refusal comes from memory, and return it."""
    found = []

    async def from_memory():
        found.append(await limiter.hit(key, cost))
        return found[-1].decided_by == "memory"

    await until(from_memory)
    return found[-1]


async def passes(limiter, key, cost=1):
    """Wait until a hit is let through, and return its verdict."""
    found = []

    async def let_through():
        found.append(await limiter.hit(key, cost))
        return found[-1].allowed

    await until(let_through)
    return found[-1]


async def scanned(bay, prefix):
    """Every key of this test with its lifetime in milliseconds."""
    cursor, found = b"0", {}
    while True:
        cursor, names = await bay.execute("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
        for name in names:
            found[name.decode()] = await bay.execute("PTTL", name)
        if cursor == b"0":
            return found


@pytest.fixture
def rate():
    return Rate(3, LONG)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request):
    return request.param


async def test_hits_are_counted_down_and_then_refused(either, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    for left in (2, 1, 0):
        verdict = await limiter.hit("ada")
        assert (verdict.allowed, verdict.remaining, verdict.retry_after) == (True, left, 0.0)
        assert (verdict.limit, verdict.policy, verdict.rate, verdict.decided_by) == (3, "api", rate, "server")
        assert 0 < verdict.reset_after <= 2 * rate.per
        assert (verdict.shadowed, verdict.undecided, verdict.standings) == (False, False, ())
        assert [(each.rate, each.remaining) for each in verdict.each] == [(rate, left)]
    refused = await limiter.hit("ada")
    assert (refused.allowed, refused.remaining, refused.limit, refused.policy) == (False, 0, 3, "api")
    assert 0 < refused.retry_after <= refused.reset_after <= 2 * rate.per
    assert (await limiter.hit("bob")).remaining == 2


async def test_a_refused_cost_is_never_charged(either, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    assert (await limiter.hit("ada", 2)).remaining == 1
    for _ in range(5):
        verdict = await limiter.hit("ada", 2)
        assert (verdict.allowed, verdict.remaining) == (False, 1)
        assert verdict.retry_after > 0
    assert (await limiter.hit("ada", 1)).remaining == 0
    assert not (await limiter.hit("ada", 1)).allowed


async def test_peek_never_charges(either, prefix, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    for cost in (1, 3, 2):
        verdict = await limiter.peek("ada", cost)
        assert (verdict.allowed, verdict.remaining, verdict.retry_after, verdict.reset_after) == (True, 3, 0.0, 0.0)
    assert await scanned(either, prefix) == {}
    await limiter.hit("ada", 2)
    before = await either.execute("DUMP", names_of(limiter, "ada")[0])
    looked = await limiter.peek("ada", 2)
    assert (looked.allowed, looked.remaining) == (False, 1)
    assert await either.execute("DUMP", names_of(limiter, "ada")[0]) == before
    hit = await limiter.hit("ada", 2)
    assert hit.retry_after == pytest.approx(looked.retry_after, abs=1.0)
    stats = either.stats().limits["api"]
    assert (stats.allowed, stats.refused) == (1, 1)


async def test_reset_forgets_what_was_used_and_says_so(either, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    assert await limiter.reset("ada") is False
    await limiter.hit("ada", 3)
    await limiter.hit("bob", 3)
    assert await limiter.reset("ada") is True
    assert (await limiter.hit("ada")).remaining == 2
    assert not (await limiter.hit("bob")).allowed


async def test_a_number_a_text_and_a_uuid_are_keys(either, rate):
    limiter = either.limiter("api", rate)
    who = uuid.uuid4()
    await limiter.hit(42)
    assert (await limiter.hit("42")).remaining == 1
    await limiter.hit(who)
    assert (await limiter.hit(str(who))).remaining == 1
    long = "x" * 5000
    await limiter.hit(long)
    assert (await limiter.hit(long)).remaining == 1
    assert (await limiter.hit(long + "y")).remaining == 2
    assert (await limiter.hit("a b\n{c}\x00\ud800")).remaining == 2


@pytest.mark.parametrize("key", BAD_KEYS, ids=repr)
async def test_what_is_no_key_is_refused(either, rate, key):
    limiter = either.limiter("api", rate, concurrency=1)
    for call in (
        lambda: limiter.hit(key),
        lambda: limiter.peek(key),
        lambda: limiter.acquire(key),
        lambda: limiter.reset(key),
        lambda: limiter.set_rates(key, "1/s", 5),
        lambda: limiter.clear_rates(key),
        lambda: limiter.rates(key),
    ):
        with pytest.raises(InvalidKey):
            await call()


@pytest.mark.parametrize("cost", [0, -1, True, 1.5, "1", None, 4, 2**70], ids=repr)
async def test_a_cost_that_cannot_be_is_refused_and_nothing_is_charged(either, algorithm, rate, cost):
    limiter = either.limiter("api", rate, algorithm=algorithm)
    for call in (limiter.hit, limiter.peek):
        with pytest.raises(InvalidCost):
            await call("ada", cost)
    with pytest.raises(InvalidCost):
        await limiter.acquire("ada", 1, cost=cost)
    assert (await limiter.peek("ada")).remaining == 3
    assert either.stats().limits["api"].allowed == 0


async def test_a_cost_above_the_burst_passes_with_own_rates_that_hold_it(either, rate):
    limiter = either.limiter("api", rate)
    await limiter.set_rates("ada", Rate(10, LONG), "1h")
    assert (await limiter.hit("ada", 7)).remaining == 3
    await limiter.set_rates("bob", Rate(2, LONG), "1h")
    with pytest.raises(InvalidCost, match="2"):
        await limiter.hit("bob", 3)
    assert (await limiter.hit("bob", 2)).allowed


async def test_several_rates_are_charged_all_or_none(either, algorithm):
    short, long = Rate(3, "50d"), Rate(5, LONG)
    limiter = either.limiter("api", [long, short], algorithm=algorithm)
    for left in (2, 1, 0):
        verdict = await limiter.hit("ada")
        assert (verdict.allowed, verdict.rate, verdict.remaining) == (True, short, left)
        assert [(each.rate, each.remaining, each.retry_after) for each in verdict.standings] == [(short, left, 0.0), (long, left + 2, 0.0)]
    for _ in range(3):
        refused = await limiter.hit("ada")
        assert (refused.allowed, refused.rate, refused.limit, refused.remaining) == (False, short, 3, 0)
        assert [each.remaining for each in refused.standings] == [0, 2]
        assert [each.retry_after > 0 for each in refused.standings] == [True, False]
        assert refused.retry_after == refused.standings[0].retry_after
    other = either.limiter("other", [Rate(5, "50d"), Rate(3, LONG)], algorithm=algorithm)
    await other.hit("ada", 3)
    refused = await other.hit("ada", 2)
    assert [each.remaining for each in refused.standings] == [2, 0]
    assert refused.rate == Rate(3, LONG)
    with pytest.raises(InvalidCost):  # one of its rates holds that, the other does not
        await other.hit("ada", 4)


@pytest.mark.parametrize("exempt", [{"ada", 42}, ["ada", 42], lambda key: key in ("ada", 42)], ids=["set", "list", "function"])
async def test_who_is_exempt_is_never_limited(either, prefix, rate, exempt):
    limiter = either.limiter("api", rate, exempt=exempt)
    for _ in range(5):
        for key in ("ada", 42):
            verdict = await limiter.hit(key)
            assert (verdict.allowed, verdict.remaining, verdict.retry_after, verdict.decided_by) == (True, 3, 0.0, "exempt")
    assert (await limiter.peek("ada")).decided_by == "exempt"
    assert (await limiter.acquire("ada")).decided_by == "exempt"
    assert await scanned(either, prefix) == {}
    assert (await limiter.hit("bob")).decided_by == "server"
    stats = either.stats().limits["api"]
    assert (stats.exempt, stats.allowed) == (11, 12)


async def test_rate_for_says_which_rate_a_key_has(either, rate):
    plans = {"text": f"5/{LONG}", "rate": Rate(6, LONG), "several": [Rate(7, LONG), Rate(8, "50d")], "bad": "many"}
    limiter = either.limiter("api", rate, rate_for=plans.get)
    found = {key: (await limiter.hit(key)).remaining for key in ("none", "text", "rate", "several")}
    assert found == {"none": 2, "text": 4, "rate": 5, "several": 6}
    assert await limiter.rates("text") == (Rate(5, LONG),)
    assert await limiter.rates("none") == (rate,)
    for call in (limiter.hit, limiter.peek, limiter.acquire):
        with pytest.raises(InvalidRate, match="many"):
            await call("bad")


async def test_own_rates_come_before_rate_for_and_outlive_a_reset(either, rate):
    limiter = either.limiter("api", rate, rate_for=lambda key: Rate(5, LONG))
    await limiter.set_rates("ada", Rate(9, LONG), "1h")
    assert (await limiter.hit("ada")).remaining == 8
    await limiter.reset("ada")
    assert (await limiter.hit("ada")).remaining == 8
    for wrong in ("x", []):
        with pytest.raises(InvalidRate):
            await limiter.set_rates("ada", wrong, "1h")
    assert await limiter.rates("ada") == (Rate(9, LONG),)


@pytest.mark.parametrize("stored", ["", "x", "5:0:5", "0:1000:1", f"5:{10**9}:5;7:{10**10}:7", f"5:{10**9}:5,7", f"5:{10**9}:5,junk"])
async def test_own_rates_that_are_damaged_are_reported_and_never_raised(make_either, url, prefix, rate, stored):
    events = []
    bay = await make_either(url, prefix=prefix, on_event=events.append).connect()
    limiter = bay.limiter("api", rate)
    await bay.execute("SET", names_of(limiter, "ada")[1], stored, "PX", 60_000)
    verdict = await limiter.hit("ada")
    assert verdict.allowed
    assert (await limiter.peek("ada")).remaining == verdict.remaining
    assert [(type(event), event.policy) for event in events] == [(LimitUnreadable, "api")] * 2
    assert bay.stats().reported == {"LimitUnreadable": 2}


async def test_in_shadow_nobody_is_refused_and_everybody_is_told(make_either, url, prefix, rate, caplog):
    events = []
    bay = await make_either(url, prefix=prefix, on_event=events.append).connect()
    limiter = bay.limiter("api", rate, shadow=True)
    await limiter.hit("ada", 3)
    with caplog.at_level(logging.WARNING, "forebay"):
        for _ in range(20):
            verdict = await limiter.hit("ada")
            assert (verdict.allowed, verdict.shadowed, verdict.retry_after, verdict.remaining) == (True, True, 0.0, 0)
    stats = bay.stats()
    assert (stats.limits["api"].shadowed, stats.limits["api"].allowed, stats.limits["api"].refused) == (20, 21, 0)
    assert stats.reported == {"LimitShadowed": 20}
    assert {(type(event), event.policy, event.key) for event in events} == {(LimitShadowed, "api", "ada")}
    assert caplog.records
    assert not any("ada" in record.getMessage() for record in caplog.records)
    assert all("api" in record.getMessage() for record in caplog.records)
    assert not (await limiter.peek("ada")).allowed, "to look is to be told the truth"


async def test_a_limiter_without_a_rate_says_so(either):
    limiter = either.limiter("api", concurrency=2)
    for call in (limiter.hit, limiter.peek, limiter.acquire):
        with pytest.raises(UsageError, match="no rate"):
            await call("ada")


async def test_limiters_of_one_name_and_another_algorithm_do_not_disturb_each_other(either, rate):
    for algorithm in ("gcra", "fixed_window", "sliding_window", "sliding_log"):
        limiter = either.limiter("api", rate, algorithm=algorithm)
        assert [(await limiter.hit("ada")).remaining for _ in range(3)] == [2, 1, 0]
        assert not (await limiter.hit("ada")).allowed


@pytest.mark.parametrize(("limit", "left"), [(10, 7), (4, 1), (3, 0), (2, 0)])
async def test_a_changed_limit_keeps_what_was_used(either, algorithm, limit, left):
    await either.limiter("api", Rate(5, LONG), algorithm=algorithm).hit("ada", 3)
    assert (await either.limiter("api", Rate(limit, LONG), algorithm=algorithm).peek("ada")).remaining == left


async def test_a_changed_burst_keeps_what_was_used(either):
    await either.limiter("api", Rate(5, LONG, burst=8)).hit("ada", 3)
    assert (await either.limiter("api", Rate(5, LONG, burst=4)).peek("ada")).remaining == 1
    assert (await either.limiter("api", Rate(5, LONG, burst=20)).peek("ada")).remaining == 17


async def test_a_rate_that_a_deploy_leaves_out_is_not_forgotten(either, algorithm):
    short, long = Rate(3, "50ms"), Rate(4, LONG)
    both, one = (either.limiter("api", rates, algorithm=algorithm) for rates in ([short, long], [short]))
    await both.hit("ada", 3)
    await passes(one, "ada", 3)  # a server of the new deploy, while the old one still runs
    assert (await both.peek("ada")).standings[1].remaining == (0 if algorithm == "sliding_log" else 1)  # a log holds every hit


async def test_no_key_names_anybody_or_stays(either, prefix, algorithm, rate):
    limiter = either.limiter("api", rate, algorithm=algorithm, concurrency=2)
    keyed = either.limiter("keyed", rate, algorithm=algorithm, concurrency=2, secret="of sixteen bytes and more")
    who = "ada@example.org"
    for each in (limiter, keyed):
        await each.set_rates(who, Rate(4, LONG), "1h")
        for cost in (1, 2, 2):
            await each.hit(who, cost)
        slots = core_of(each).slots
        slot = await slots.take(who, 1.0, is_open=True)
        await slots.give(slot)
        await slots.take(who, 1.0, is_open=True)
    found = await scanned(either, prefix)
    assert len(found) == 8, found
    assert all(name.startswith(f"{prefix}limit:{{") for name in found)
    assert not any(word in name for name in found for word in ("ada", "example"))
    assert len({name.partition("{")[2].partition("}")[0] for name in found}) == 2, "a secret keys the digests"
    assert all(left > 0 for left in found.values()), found


async def test_each_kind_of_decision_is_counted(either, rate):
    limiter = either.limiter("api", rate, exempt={"root"})
    await limiter.hit("ada", 2)
    await limiter.acquire("ada")
    await limiter.hit("root")
    refused = 0
    while either.stats().limits["api"].remembered < 2:
        refused += not (await limiter.hit("ada")).allowed
    for call in (limiter.peek, limiter.reset):
        await call("ada")
    assert asdict(either.stats().limits["api"]) == {
        "allowed": 3,
        "refused": refused,
        "remembered": 2,
        "leased": 0,
        "shadowed": 0,
        "exempt": 1,
        "undecided": 0,
    }
    assert either.stats().reported == {}
