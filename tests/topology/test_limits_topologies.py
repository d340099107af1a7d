"""Limits on a cluster and behind sentinels: many slots decide together, a dead node is an outage, and a failover ends nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from forebay import InvalidCost, Rate
from forebay.ratelimit.scripts import LAWS
from tests.clusters import ClusterSet
from tests.sentinels import SentinelSet
from tests.server.test_hit_all import bare, left
from tests.server.test_limits import LONG, core_of, names_of, passes, remembered
from tests.server.test_near import until


@pytest.fixture
async def bay(cluster: ClusterSet, make_either: Any, prefix: str) -> Any:
    return await make_either(cluster.url, prefix=prefix).connect()


def apart(cluster: ClusterSet, limiter: Any, count: int) -> list[str]:
    """Keys whose limits are in as many slots, spread over all nodes."""
    found: dict[int, str] = {}
    owners = Counter[str]()
    for number in range(1000):
        slot = cluster.slot_of(names_of(limiter, number)[0])
        owner = cluster.owner(slot).id
        if slot not in found and owners[owner] < -(-count // 3):
            owners[owner] += 1
            found[slot] = str(number)
    return list(found.values())[:count]


@pytest.mark.parametrize("algorithm", LAWS)
async def test_many_keys_are_limited_on_all_nodes(cluster: ClusterSet, bay: Any, algorithm: str) -> None:
    limiter = bay.limiter("api", Rate(2, LONG), algorithm=algorithm)
    for key in range(40):
        assert [(await limiter.hit(key)).remaining for _ in range(2)] == [1, 0]
        assert not (await limiter.hit(key)).allowed
    assert len({cluster.owner(cluster.slot_of(names_of(limiter, key)[0])).id for key in range(40)}) == 3
    assert await limiter.reset(7)
    await limiter.set_rates(8, Rate(5, LONG), "1h")
    assert (await passes(limiter, 7)).remaining == 1
    assert (await passes(limiter, 8)).remaining == 2
    assert bay.stats().reported == {}


@pytest.mark.parametrize("algorithm", LAWS)
async def test_several_slots_are_charged_together_or_not_at_all(cluster: ClusterSet, bay: Any, algorithm: str) -> None:
    limiter = bay.limiter("api", Rate(5, LONG), algorithm=algorithm)
    keys = apart(cluster, limiter, 6)
    asks = [(bare(limiter), key, 2) for key in keys]
    assert (await bay.hit_all(asks)).allowed
    assert await left(*((limiter, key) for key in keys)) == [3] * 6
    await limiter.hit(keys[-1], 2)
    before = bay.stats().limits["api"]
    for _ in range(3):
        decision = await bay.hit_all(asks)
        assert not decision.allowed
        assert decision.retry_after > 0
    assert await left(*((limiter, key) for key in keys)) == [3] * 5 + [1]
    after = bay.stats().limits["api"]
    assert (after.allowed - before.allowed, after.refused - before.refused) == (0, 3)
    assert (await bay.hit_all(asks[:-1])).allowed
    assert await left(*((limiter, key) for key in keys)) == [1] * 6
    assert bay.stats().reported == {}


async def test_a_cost_that_one_slot_cannot_hold_charges_nowhere(cluster: ClusterSet, bay: Any) -> None:
    limiter = bay.limiter("api", Rate(5, LONG))
    keys = apart(cluster, limiter, 4)
    with pytest.raises(InvalidCost):
        await bay.hit_all([(bare(limiter), key, 6 if key == keys[-1] else 1) for key in keys])

    async def nothing_charged() -> bool:
        return await left(*((limiter, key) for key in keys)) == [5] * 4

    await until(nothing_charged)
    assert bay.stats().limits["api"].allowed == 0


@pytest.mark.parametrize("outcome", ["open", "closed", "local"])
async def test_a_dead_node_is_an_outage_for_its_keys_alone(cluster: ClusterSet, make_either: Any, prefix: str, outcome: str) -> None:
    joint = "&" if "?" in cluster.url else "?"
    bay = await make_either(f"{cluster.url}{joint}limit_deadline=200ms", prefix=prefix).connect()
    limiter = bay.limiter("api", Rate(20, LONG), on_outage=outcome, local_share=0.05)
    keys = apart(cluster, limiter, 3)
    assert (await bay.hit_all([(bare(limiter), key) for key in keys])).allowed
    dead = next(key for key in keys if cluster.owner(cluster.slot_of(names_of(limiter, key)[0])) is not cluster.masters()[0])
    alive = [key for key in keys if key != dead]
    node = cluster.owner(cluster.slot_of(names_of(limiter, dead)[0]))
    cluster.kill(node)
    assert (await limiter.hit(dead)).decided_by == outcome
    decisions = [await bay.hit_all([*((bare(limiter), key) for key in alive), (bare(limiter), dead)]) for _ in range(2)]
    assert [decision.allowed for decision in decisions] == [outcome == "open"] * 2
    assert all(decision.verdicts[-1].decided_by == outcome for decision in decisions)
    charged = 3 if outcome == "open" else 1
    assert await left(*((limiter, key) for key in alive)) == [20 - charged] * 2, "what a dead node refuses is given back by the others"
    assert bay.stats().reported["LimitUndecided"] == 3
    cluster.restart(node)
    await until(lambda: decided(limiter, dead))


async def decided(limiter: Any, key: str) -> bool:
    return not (await limiter.hit(key)).undecided


async def test_refusals_are_remembered_on_a_cluster_where_one_connection_tells(cluster: ClusterSet, bay: Any, make_either: Any) -> None:
    limiter = bay.limiter("api", Rate(3, LONG))
    other = make_either(cluster.url, prefix=bay.prefix).limiter("api", Rate(3, LONG))
    for key in range(12):
        await limiter.hit(key, 3)
        if hasattr(bay, "wrapped"):  # threads would need a connection to each node
            assert {(await limiter.hit(key)).decided_by for _ in range(10)} == {"server"}
        else:
            assert (await remembered(limiter, key)).remaining == 0
    if not hasattr(bay, "wrapped"):
        assert len(core_of(limiter).policy.held) == 12
    for key in range(12):
        await other.reset(key)
        assert (await passes(limiter, key)).remaining == 2


@pytest.fixture
def own_cluster() -> Iterator[ClusterSet]:
    """One whose slots a test may move."""
    with ClusterSet(2) as started:
        yield started


@pytest.mark.parametrize("own_rates", [True, False], ids=["with own rates", "without"])
async def test_a_slot_that_moves_takes_what_was_used_along(own_cluster: ClusterSet, make_either: Any, prefix: str, own_rates: bool) -> None:
    cluster = own_cluster
    bay = await make_either(f"{cluster.url}?limit_deadline=1s", prefix=prefix).connect()
    limiter = bay.limiter("api", Rate(1000, LONG))
    if own_rates:
        await limiter.set_rates("ada", Rate(1000, LONG), "1h")
    await limiter.hit("ada", 10)
    slot = cluster.slot_of(names_of(limiter, "ada")[0])
    target = next(master for master in cluster.masters() if master is not cluster.owner(slot))
    charged, found = 10, {}
    for step in cluster.moving(slot, target):
        verdicts = [await limiter.hit("ada") for _ in range(5)]
        charged += sum(not verdict.undecided for verdict in verdicts)
        found[step] = {verdict.decided_by for verdict in verdicts}
        assert [verdict.remaining for verdict in verdicts if not verdict.undecided][-1:] in ([], [1000 - charged])
    assert (await limiter.peek("ada")).remaining == 1000 - charged
    assert found == {step: {"server"} for step in found}, bay.stats().reported


@pytest.mark.parametrize("how", ["failover", "kill"])
async def test_after_a_failover_limits_go_on(sentinels: SentinelSet, make_either: Any, prefix: str, how: str) -> None:
    """No error, and no more than what the lost replication and the outage cost: everything is charged again at most once."""
    bay = await make_either(sentinels.url, prefix=prefix).connect()
    limiter = bay.limiter("api", Rate(50, LONG), on_outage="closed")
    allowed = sum([(await limiter.hit("ada")).allowed for _ in range(20)])
    assert allowed == 20
    old = sentinels.master_node()
    if how == "kill":
        sentinels.kill_master()
        change = asyncio.create_task(asyncio.to_thread(sentinels.await_new_master, old))
    else:
        change = asyncio.create_task(asyncio.to_thread(sentinels.failover))
    while not change.done():
        verdict = await limiter.hit("ada")
        allowed += verdict.allowed
        await asyncio.sleep(0.05)
    await change

    async def exhausted() -> bool:
        nonlocal allowed
        verdict = await limiter.hit("ada")
        allowed += verdict.allowed
        return not verdict.allowed and not verdict.undecided

    await until(exhausted, 20.0)
    assert 50 <= allowed <= 100
    assert (await limiter.peek("ada")).remaining == 0
    assert not {name for name in bay.stats().reported if name not in ("LimitUndecided", "ConnectionDropped")}
    await limiter.reset("ada")
    assert (await passes(limiter, "ada")).remaining == 49
