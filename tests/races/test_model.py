"""Whatever is done to a cache, in whatever order, through whichever bay: it answers as a plain dictionary of what may be there.

The model knows for each key the values that were put into the database and since when each is too old: an invalidation that was
acknowledged makes everything older a lie, for every remote read in any bay and every near read in the bay that invalidated. A near
read elsewhere may lag only until its connection has heard, which a round trip on it settles.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from forebay import AsyncForebay, Forebay
from tests.either import Either

KEYS = ["a", "b", "c"]
TAGS = ["red", "blue"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "near": {"near": 2},
    "versioned near": {"near": 10, "versioned": True},
    "stale windows": {"stale_if_error": 60, "near": 10},
}
keys = st.sampled_from(KEYS)
bays = st.integers(0, 2)


class Model(RuleBasedStateMachine):
    """Two bays for asyncio on one loop, one for threads, and a connection of somebody else's."""

    url: str
    options: dict[str, Any]

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        prefix = f"m{uuid.uuid4().hex[:12]}:"
        self.bays: list[Any] = [
            AsyncForebay(self.url, prefix=prefix),
            AsyncForebay(self.url, prefix=prefix),
            Either(Forebay(self.url, prefix=prefix)),
        ]
        self.caches = [bay.cache("c", ttl=600, **self.options) for bay in self.bays]
        self.other = AsyncForebay(self.url)
        self.name = f"{prefix}c:"
        self.step = 0
        self.database = dict.fromkeys(KEYS, (0, "red"))  # a number that only grows, and a colour
        self.oldest = dict.fromkeys(KEYS, 0)  # what is below was invalidated
        self.may_lag: dict[tuple[int, str], int] = {}  # by (bay, key): what a near read there may still say
        self.tagged: dict[str, set[str]] = {key: set() for key in KEYS}  # the tags that what is stored may have
        self.sure: dict[str, Any] = {}  # what must be there, because it was just stored and nothing happened since

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def seen(self, bay: int, key: str, value: Any, *, remote: bool = False) -> None:
        """A read answered *value*."""
        least = self.oldest[key] if remote else min(self.oldest[key], self.may_lag.get((bay, key), self.oldest[key]))
        assert least <= value[0] <= self.database[key][0], f"{key}: {value}, between {least} and {self.database[key]} was allowed"

    def invalidated(self, bay: int | None, touched: list[str]) -> None:
        for key in touched:
            for other in range(3):
                if other == bay:
                    self.may_lag.pop((other, key), None)
                else:
                    self.may_lag.setdefault((other, key), self.oldest[key])
            self.oldest[key] = self.database[key][0]

    @rule(key=keys, colour=st.sampled_from(TAGS))
    def write_to_the_database(self, key: str, colour: str) -> None:
        self.step += 1
        self.database[key] = (self.step, colour)

    @rule(bay=bays, key=keys)
    def get(self, bay: int, key: str) -> None:
        value = self.run(self.caches[bay].get(key))
        if value is not None:
            self.seen(bay, key, value)

    @rule(bay=bays)
    def get_many(self, bay: int) -> None:
        for key, value in self.run(self.caches[bay].get_many(KEYS)).items():
            self.seen(bay, key, value)

    @rule(bay=bays, key=keys, how=st.sampled_from(["none", "static", "of the value"]))
    def get_or_set(self, bay: int, key: str, how: str) -> None:
        tags = {"none": [], "static": ["red", "blue"], "of the value": lambda value: [value[1]]}[how]
        self.seen(bay, key, self.run(self.caches[bay].get_or_set(key, lambda: list(self.database[key]), tags=tags)))

    @rule(bay=bays)
    def get_or_set_many(self, bay: int) -> None:
        found = self.run(self.caches[bay].get_or_set_many(KEYS, lambda missing: {key: list(self.database[key]) for key in missing}))
        assert set(found) == set(KEYS)
        for key, value in found.items():
            self.seen(bay, key, value)

    @rule(bay=bays, key=keys)
    def a_load_during_which_the_row_changes(self, bay: int, key: str) -> None:
        """The value goes to its caller, and to nobody later."""

        def loader() -> Any:
            before = list(self.database[key])
            self.write_to_the_database(key, "blue")
            self.run_elsewhere_delete(key)
            return before

        cache = self.caches[2]  # its loader runs apart from the loop
        started = self.database[key][0]
        value = self.run(cache.get_or_set(key, loader))
        assert min(started, self.oldest[key], self.may_lag.get((2, key), started)) <= value[0] <= self.database[key][0]
        again = self.run(self.caches[bay].get(key))
        if again is not None:
            self.seen(bay, key, again)

    def run_elsewhere_delete(self, key: str) -> None:
        with Forebay(self.url) as bay:
            bay.execute("DEL", self.name + key)
        self.invalidated(None, [key])

    @rule(bay=bays, key=keys)
    def set(self, bay: int, key: str) -> None:
        self.run(self.caches[bay].set(key, list(self.database[key]), tags=[self.database[key][1]]))
        self.invalidated(bay, [key])

    @rule(bay=bays, key=keys)
    def add(self, bay: int, key: str) -> None:
        if self.run(self.caches[bay].add(key, list(self.database[key]))):
            self.invalidated(bay, [key])

    @rule(bay=bays, key=keys)
    def delete(self, bay: int, key: str) -> None:
        self.run(self.caches[bay].delete(key))
        self.invalidated(bay, [key])
        assert self.run(self.caches[bay].get(key)) is None

    @rule(bay=bays)
    def clear(self, bay: int) -> None:
        self.run(self.caches[bay].clear())
        self.invalidated(bay, KEYS)
        assert self.run(self.caches[bay].get_many(KEYS)) == {}

    @rule(bay=bays)
    def delete_matching(self, bay: int) -> None:
        self.run(self.caches[bay].delete_matching("[ab]"))
        self.invalidated(bay, ["a", "b"])
        assert set(self.run(self.caches[bay].get_many(KEYS))) <= {"c"}

    @rule(bay=bays, key=keys)
    def mark_stale(self, bay: int, key: str) -> None:
        self.run(self.caches[bay].mark_stale(key))
        self.invalidated(bay, [key])
        assert self.run(self.caches[bay].get(key)) is None

    @rule(bay=bays, tag=st.sampled_from(TAGS))
    def invalidate_tags(self, bay: int, tag: str) -> None:
        """What carries the tag is gone; what does not may stay, and the model knows of no more than that."""
        before = self.run(self.caches[bay].get_many(KEYS))
        self.run(self.caches[bay].invalidate_tags(tag))
        after = self.run(self.caches[bay].get_many(KEYS))
        assert after.items() <= before.items()

    @rule(bay=bays, key=keys)
    def tagged_and_invalidated(self, bay: int, key: str) -> None:
        self.run(self.caches[bay].set(key, list(self.database[key]), tags=["gone"]))
        self.invalidated(bay, [key])
        self.run(self.caches[bay].invalidate_tags("gone"))
        assert self.run(self.caches[bay].get(key)) is None
        self.invalidated(bay, [key])

    @rule(key=keys)
    def somebody_else_deletes(self, key: str) -> None:
        self.run(self.other.execute("DEL", self.name + key))
        self.invalidated(None, [key])

    @rule(bay=bays, key=keys)
    def expire_and_exists(self, bay: int, key: str) -> None:
        there = self.run(self.caches[bay].expire(key, "5m"))
        assert there == self.run(self.caches[bay].exists(key))
        left = self.run(self.caches[bay].ttl(key))
        assert (left is not None and 290 < left <= 300) if there else left is None

    @rule(bay=bays)
    def hear_everything(self, bay: int) -> None:
        """After a round trip on the very connection that tells of changes, nothing old is near any more."""
        if bay < 2:
            self.run(self.bays[bay].execute("PING"))
            for key in KEYS:
                self.may_lag.pop((bay, key), None)

    @invariant()
    def a_bay_without_anything_near_sees_nothing_old(self) -> None:
        if not hasattr(self, "other"):
            return
        if "fresh" not in self.__dict__:
            bay = AsyncForebay(self.url, prefix=self.name[:-2])
            self.fresh = bay.cache("c", ttl=600, **{**self.options, "near": None})
            self.bays.append(bay)
        for key, value in self.run(self.fresh.get_many(KEYS)).items():
            self.seen(3, key, value, remote=True)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for bay in (*self.bays, self.other):
                self.run(bay.close())
            self.loop.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_answers_as_the_model_allows(url, kind):
    machine = type("Machine", (Model,), {"url": url, "options": KINDS[kind]})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        ),
    )
