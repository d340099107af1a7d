"""However many processes and callers hammer one key, no window sees more of it than the policy allows, by the server's own clock.

An admission happened between two looks at the server's time, one before the hit was asked and one after its verdict. It counts for a
window only if both looks are within it, so that what is counted is never more than there was, and a bound that is broken is broken for
sure. The check can fail, and does where it should: each test also gives it what it found four times over, as if four of the eight
processes had counted for themselves, and wants that refused. Were hits lost between processes, or a refusal charged, or a window
miscounted by more than what the looks leave open at its edges (a few dozen milliseconds), it would fail as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from forebay import AsyncForebay, Forebay
from tests.races.process import Told

US = 1_000_000
PROCESSES = 8
CALLERS = 64
LASTS = 1_500_000  # microseconds of the server's time
COSTS = (1, 2, 3)
LEASE = 20
HOUR = 3600
CHILD = """
import sys, time
skew, path = int(sys.argv.pop(1)), sys.argv.pop(1)
if skew:  # the clocks of this process, before anybody has a name of its own for them; a monotonic one is never below zero
    for name, by in (("time", skew), ("monotonic", skew + 3600)):
        setattr(time, name, lambda real=getattr(time, name), by=by: real() + by)
        setattr(time, name + "_ns", lambda real=getattr(time, name + "_ns"), by=by: real() + by * 10**9)
import importlib.util
spec = importlib.util.spec_from_file_location("bound_child", path)
module = importlib.util.module_from_spec(spec)
sys.modules["bound_child"] = module
spec.loader.exec_module(module)
module.obey()
"""


@dataclass
class Admitted:
    """So many units, between two times of the server, in microseconds."""

    cost: int
    before: int
    after: int


def breach(admitted: list[Admitted], bound: Callable[[int], float]) -> tuple[int, int, int] | None:
    """Return a window in which there surely was more than *bound* says of its length: its begin, its end, and how many units.

    Windows begin at one look and end at another: no other one can hold more for its length.
    """
    by_end = sorted(admitted, key=lambda each: each.after)
    for begin in sorted({each.before for each in admitted}):
        units = 0
        for each in by_end:
            if each.before >= begin:
                units += each.cost
                if units > bound(each.after - begin):
                    return begin, each.after, units
    return None


def gcra(limit: int, period: int, burst: int) -> Callable[[int], float]:
    return lambda window: burst + limit * window / period


def windows(limit: int, period: int, more: int, times: int = 1) -> Callable[[int], float]:
    """*limit* for each period that is begun in a window, and for *more* of them; *times* that."""
    return lambda window: times * limit * (window // period + 1 + more)


# A rate, a law, and its bound. A window as long as the period holds less than two periods of a log, hence one limit; it meets two fixed
# windows; and what the counter of a sliding window lets through of a period is below two limits.
POLICIES: dict[str, tuple[str, dict[str, Any], Callable[[int], float]]] = {
    "gcra": ("300/second burst 60", {}, gcra(300, US, 60)),
    "gcra of two rates": (
        "90/300ms burst 30, 200/minute",
        {},
        lambda window: min(gcra(90, 300_000, 30)(window), gcra(200, 60 * US, 200)(window)),
    ),
    "fixed_window": ("60/300ms", {"algorithm": "fixed_window"}, windows(60, 300_000, 1)),
    "sliding_window": ("60/300ms", {"algorithm": "sliding_window"}, windows(60, 300_000, 0, times=2)),
    "sliding_log": ("60/300ms", {"algorithm": "sliding_log"}, windows(60, 300_000, 0)),
    "lease": ("600/second burst 120", {"lease": LEASE}, lambda window: gcra(600, US, 120)(window) + PROCESSES * LEASE),
}


class Child(Told):
    """A process with a bay of its own, and clocks that are *skew* seconds ahead."""

    def __init__(self, url: str, skew: int = 0) -> None:
        # Who asks while so many others do may wait: that is not to be taken for an outage, which is no matter of this test.
        env = {**os.environ, "REDIS_LIMIT_DEADLINE": "20s", "REDIS_READ_TIMEOUT": "20s", "PYTHONPATH": os.pathsep.join(sys.path)}
        super().__init__([sys.executable, "-c", CHILD, str(skew), __file__, url], env)


@pytest.fixture(scope="module")
def children(server) -> Iterator[list[Child]]:
    """Eight processes; the first two have clocks an hour ahead, and an hour behind."""
    made = [Child(server.url, skew) for skew in (HOUR, -HOUR, *[0] * (PROCESSES - 2))]
    assert [child.hear() for child in made] == ["ready"] * PROCESSES
    yield made
    for child in made:
        child.close()


def hammered(children: list[Child], bay: Forebay, rate: str, options: dict[str, Any]) -> list[list[Admitted]]:
    """Return what each of *children* was let through, all at once, of one key of a new limiter."""
    ends = server_time(bay.execute("TIME")) + LASTS
    order = {"name": f"bound-{uuid.uuid4().hex[:8]}", "rate": rate, "options": options, "ends": ends}
    for child in children:
        child.tell(do="hammer", prefix=bay.prefix, **order)
    found = []
    for child in children:
        said = child.hear()
        assert said["undecided"] == 0, "the server could not be asked, which says nothing about limits"
        found.append([Admitted(*each) for each in said["admitted"]])
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_no_window_sees_more_than_the_policy_allows(children, sync_bay, policy):
    rate, options, bound = POLICIES[policy]
    each = hammered(children, sync_bay, rate, options)
    admitted = [one for some in each for one in some]
    assert all(one.before <= one.after for one in admitted)
    assert breach(admitted, bound) is None
    assert breach([Admitted(4 * one.cost, one.before, one.after) for one in admitted], bound), "four times as much would not be seen"
    assert len({one.cost for one in admitted}) > 1


def test_the_check_sees_one_unit_too_many():
    bound = windows(3, 100, 0)
    fine = [Admitted(1, at, at) for at in (0, 10, 20, 100, 110, 120)]
    assert breach(fine, bound) is None
    assert breach([*fine, Admitted(1, 99, 99)], bound) == (0, 99, 4)
    assert breach([*fine, Admitted(1, 60, 250)], bound) is None, "it may have happened when there was room"


def test_clocks_of_clients_change_nothing(children, sync_bay):
    """One is two hours ahead of the other; both see the same key, and what is left of it, and remember refusals for as long."""
    ahead, behind = children[:2]
    clocks = []
    for child in (ahead, behind):
        child.tell(do="clocks")
        clocks.append(child.hear())
    assert all(2 * HOUR - 60 < one - other < 2 * HOUR + 60 for one, other in zip(*clocks, strict=True)), "clocks are not skewed"
    for law in ("gcra", "fixed_window", "sliding_window", "sliding_log"):
        order = {"prefix": sync_bay.prefix, "name": f"clocks-{law}", "rate": "10/366d", "options": {"algorithm": law}}
        left = 10
        for child, cost in ((ahead, 3), (behind, 1), (ahead, 2), (behind, 3), (ahead, 1)):
            child.tell(do="hit", cost=cost, **order)
            left -= cost
            allowed, remaining, retry, reset, _ = child.hear()
            assert (allowed, remaining, retry) == (True, left, 0)
            assert 0 < reset <= 2 * 366 * 86_400
        refusals = []
        for child in (ahead, behind):
            for by in ("server", "memory"):
                child.tell(do="hit", cost=1, by=by, **order)
                refusals.append(child.hear())
        assert [refusal[4] for refusal in refusals] == ["server", "memory"] * 2
        assert all(refusal[:2] == [False, 0] for refusal in refusals)
        retries, resets = [refusal[2] for refusal in refusals], [refusal[3] for refusal in refusals]
        assert max(retries) - min(retries) < 60
        assert max(resets) - min(resets) < 60


def server_time(reply: Any) -> int:
    seconds, microseconds = map(int, reply)
    return seconds * US + microseconds


# The child: it obeys orders, a line of JSON each, until there are no more.


async def hammer(bay: AsyncForebay, order: dict[str, Any]) -> dict[str, Any]:
    # An outage lets nobody through here: what nobody counted is no admission.
    limiter = bay.limiter(order["name"], order["rate"], on_outage="closed", **order["options"])
    admitted: list[tuple[int, int, int]] = []
    undecided = 0

    async def call(number: int) -> None:
        nonlocal undecided
        before, turn = server_time(await bay.execute("TIME")), number
        while before < order["ends"]:
            cost = COSTS[turn % len(COSTS)]
            turn += 1
            verdict = await limiter.hit("key", cost)
            after = server_time(await bay.execute("TIME"))
            undecided += verdict.undecided
            if verdict.allowed:
                admitted.append((cost, before, after))
            before = after

    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(call(number))
    return {"admitted": admitted, "undecided": undecided}


async def hit(bay: AsyncForebay, order: dict[str, Any], limiters: dict[str, Any]) -> list[Any]:
    if order["name"] not in limiters:
        limiters[order["name"]] = bay.limiter(order["name"], order["rate"], on_outage="closed", **order["options"])
    limiter = limiters[order["name"]]
    limit = time.monotonic() + 10
    while order.get("by") == "memory" and not limiter.policy.held and time.monotonic() < limit:
        await asyncio.sleep(0.005)  # it is read in the background after the first refusal
    verdict = await limiter.hit("key", order["cost"])
    return [verdict.allowed, verdict.remaining, verdict.retry_after, verdict.reset_after, verdict.decided_by]


async def orders(url: str) -> None:
    bays: dict[str, AsyncForebay] = {}
    limiters: dict[str, Any] = {}
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        said: Any = [time.time(), time.monotonic()]
        if order["do"] != "clocks":
            bay = bays.get(order["prefix"])
            if bay is None:
                bay = bays[order["prefix"]] = await AsyncForebay(url, prefix=order["prefix"]).connect()
            said = await (hammer(bay, order) if order["do"] == "hammer" else hit(bay, order, limiters))
        print(json.dumps(said), flush=True)
    for bay in bays.values():
        await bay.close()


def obey() -> None:
    asyncio.run(orders(sys.argv[1]))
