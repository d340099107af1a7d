"""The near tier's store: its bounds, its books and its markers hold, whatever is done in whatever order and by however many threads."""

import gc
import math
import os
import random
import threading
import time
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from msgspec import UNSET

from forebay.cache.near import Held, Near


def ring(end, trial):
    """The entries of one queue, oldest first, after a look at its links in both directions."""
    found, held = [], end.newer
    while held is not end:
        assert held.newer.older is held
        assert held.older.newer is held
        assert held.trial is trial
        found.append(held)
        held = held.newer
    assert end.newer.older is end
    assert end.older.newer is end
    return found


def check(near):
    """Each entry is in one queue, once, under its name; the books are exact and the bounds hold."""
    trials, settled = ring(near._trials, True), ring(near._settled, False)
    assert len(trials) == near._on_trial
    assert near._hand is near._settled or any(near._hand is held for held in settled)
    queued = trials + settled
    assert len({id(held) for held in queued}) == len(queued) == len(near.held) == near.entries
    assert all(near.held[held.name] is held for held in queued)
    assert near.bytes == sum(held.size for held in near.held.values())
    assert near.entries <= near._max_entries
    assert near.bytes <= near._max_bytes
    assert all(near._markers.values())


NAMES = st.sampled_from([f"n{number}" for number in range(12)])
SOURCES = ("a", "b", None)


class Store(RuleBasedStateMachine):
    """The store beside a dict that knows what may be held, and which markers are still good."""

    markers = Bundle("markers")

    @initialize(entries=st.one_of(st.none(), st.integers(1, 8)), size=st.one_of(st.none(), st.integers(1, 40)))
    def build(self, entries, size):
        self.near = Near(max_entries=entries, max_bytes=size)
        self.entries, self.size = entries or math.inf, size or math.inf
        self.model = {}
        self.open = {}
        self.evicted = 0

    def kept(self, name, held):
        """Take over what the store evicted for *held*, which must have been needed, and see that the rest is untouched."""
        self.model.pop(name, None)
        if held.size > self.size:
            assert name not in self.near.held
        else:
            left = {other: known for other, known in self.model.items() if other in self.near.held}
            gone = [known for other, known in self.model.items() if other not in left]
            self.evicted += len(gone)
            if gone:  # no more than was needed: with the last that went, it would not have fitted
                room = sum(known.size for known in left.values()) + held.size
                assert len(left) + 2 > self.entries or room + max(known.size for known in gone) > self.size
            self.model = {**left, name: held}

    @rule(name=NAMES, size=st.integers(0, 45), source=st.sampled_from(SOURCES), until=st.integers(0, 3))
    def put(self, name, size, source, until):
        held = Held(size=size, source=source, until=time.monotonic() + 1000 * until if until else -1.0)
        self.near.put(name, held)
        self.kept(name, held)

    @rule(name=NAMES)
    def hit(self, name):
        held = self.near.held.get(name)
        assert held is self.model.get(name)
        if held is not None:
            held.seen = True

    @rule(name=NAMES)
    def drop(self, name):
        assert self.near.drop(name) is (self.model.pop(name, None) is not None)
        self.open = {marker: good and marker.name != name for marker, good in self.open.items()}

    @rule(source=st.sampled_from(SOURCES))
    def drop_source(self, source):
        gone = [name for name, held in self.model.items() if held.source is source]
        assert self.near.drop_source(source) == len(gone)
        for name in gone:
            del self.model[name]
        self.open = dict.fromkeys(self.open, False)

    @rule()
    def clear(self):
        assert self.near.clear() == len(self.model)
        self.model.clear()
        self.open = dict.fromkeys(self.open, False)

    @rule(until=st.integers(0, 3))
    def prune(self, until):
        now = time.monotonic() + 1000 * until
        gone = [name for name, held in self.model.items() if held.until <= now]
        assert self.near.prune(now) == len(gone)
        for name in gone:
            del self.model[name]

    @rule(target=markers, name=NAMES)
    def begin(self, name):
        marker = self.near.begin(name)
        assert marker.name == name
        self.open[marker] = True
        return marker

    @rule(marker=consumes(markers), size=st.integers(0, 45), nothing=st.booleans())
    def settle(self, marker, size, nothing):
        good = self.open.pop(marker)
        held = None if nothing else Held(size=size)
        kept = self.near.settle(marker, held)
        assert kept is (good and not nothing and size <= self.size)
        if good and held is not None:
            self.kept(marker.name, held)
        assert not self.near.settle(marker, Held())  # it has ended

    @rule()
    def fork(self):
        self.near.renew()
        self.model.clear()
        self.open = dict.fromkeys(self.open, False)
        self.evicted = 0

    @invariant()
    def holds(self):
        check(self.near)
        assert self.near.held == self.model
        assert self.near.evictions == self.evicted
        listed = sum(len(some) if isinstance(some, set) else 1 for some in self.near._markers.values())
        assert listed == sum(self.open.values())
        assert repr(self.near).startswith(f"<Near: {len(self.model)} of ")


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def filled(size, **bounds):
    near = Near(max_entries=size, max_bytes=None, **bounds)
    for number in range(size):
        near.put(f"n{number}", Held(size=1))
    return near


def test_what_is_not_given_is_neutral():
    held = Held()
    assert held.value is UNSET
    assert (held.data, held.until, held.source, held.versions, held.size, held.seen) == (b"", math.inf, None, (), 0, False)


@pytest.mark.parametrize("bounds", [{"max_entries": 0, "max_bytes": None}, {"max_entries": None, "max_bytes": -1}])
def test_a_bound_must_leave_room(bounds):
    with pytest.raises(ValueError, match="at least 1"):
        Near(**bounds)


def test_without_bounds_nothing_goes():
    near = Near(max_entries=None, max_bytes=None)
    for number in range(1000):
        near.put(str(number), Held(size=100))
    assert (near.entries, near.bytes, near.evictions) == (1000, 100_000, 0)


def test_what_is_too_large_displaces_nobody_but_what_it_replaces():
    near = Near(max_entries=None, max_bytes=10)
    near.put("a", Held(size=4))
    near.put("b", Held(size=4))
    near.put("c", Held(size=11))
    assert list(near.held) == ["a", "b"]
    near.put("a", Held(size=11))
    assert list(near.held) == ["b"]
    assert (near.bytes, near.evictions) == (4, 0)


def test_the_dict_is_one_for_good():
    near = filled(3)
    held = near.held
    near.clear()
    near.renew()
    near.put("a", Held())
    assert near.held is held


def test_a_scan_displaces_nobody_who_is_in_demand():
    near = filled(100)
    for name in [f"n{number}" for number in range(50)]:
        near.held[name].seen = True
    for number in range(100_000):
        near.put(f"scan{number}", Held())
        if number % 40 == 0:
            for name in [f"n{number}" for number in range(50)]:
                near.held[name].seen = True
    assert all(f"n{number}" in near.held for number in range(50))
    assert len(near._absent) + len(near._absent_before) <= 102  # what is remembered is bounded too
    check(near)


def test_a_name_that_is_asked_for_again_settles_at_once():
    near = filled(100)
    near.put("more", Held())
    assert "n0" not in near.held
    near.put("n0", Held())
    near.put("never seen", Held())
    assert (near.held["n0"].trial, near.held["never seen"].trial) == (False, True)
    near.put("never seen", Held())  # in place of itself: no longer true
    assert not near.held["never seen"].trial


@pytest.mark.parametrize("forget", [lambda near: near.drop("n7"), lambda near: near.prune(math.inf)])
def test_a_name_that_is_dropped_while_in_demand_keeps_its_place(forget):
    near = filled(100)
    near.held["n7"].seen = True
    forget(near)
    near.put("n7", Held())
    near.put("n8 for the first time", Held())
    assert not near.held["n7"].trial
    assert near.held["n8 for the first time"].trial


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_past_its_time_goes_although_it_was_seen(settled):
    near = Near(max_entries=3, max_bytes=None)
    for _ in range(1 + settled):  # what is put in place of another is settled
        for name, until in (("a", math.inf), ("b", 0.0), ("c", math.inf)):
            near.put(name, Held(until=until))
            near.held[name].seen = True
    near.put("d", Held())
    assert set(near.held) == {"a", "c", "d"}


def test_from_its_time_on_it_is_pruned():
    near = Near(max_entries=None, max_bytes=None)
    near.put("a", Held(until=5.0))
    assert near.prune(4.999) == 0
    assert near.prune(5.0) == 1


def test_one_reply_may_be_kept_twice():
    near = filled(3)
    held, markers = Held(size=5), [near.begin("a"), near.begin("a")]
    assert all(near.settle(marker, held) for marker in markers)
    assert near.held["a"] is held
    check(near)


def test_a_push_between_the_read_and_its_reply_wins():
    near = Near(max_entries=3, max_bytes=None)
    early, other = near.begin("a"), near.begin("b")
    near.drop("a")
    late = near.begin("a")
    assert not near.settle(early, Held())
    assert near.settle(late, Held())
    assert near.settle(other, Held())
    near.drop("a")  # after the reply: it removes what was kept
    assert list(near.held) == ["b"]


@pytest.mark.parametrize("strike", [lambda near: near.drop_source(object()), Near.clear, Near.renew])
def test_whatever_concerns_all_strikes_every_marker_off(strike):
    near = Near(max_entries=3, max_bytes=None)
    markers = [near.begin(name) for name in ("a", "a", "b")]
    strike(near)
    assert not any(near.settle(marker, Held()) for marker in markers)
    assert not near.held


def test_several_reads_of_one_name_end_one_by_one():
    near = Near(max_entries=3, max_bytes=None)
    first, second, third = (near.begin("a") for _ in range(3))
    assert near.settle(second, Held(size=1))
    assert not near.settle(first, None)
    assert near.settle(third, Held(size=2))
    assert near.bytes == 2
    assert not near._markers


def test_nothing_that_went_is_kept_alive():
    class Value:
        pass

    near = Near(max_entries=2, max_bytes=None)
    gc.disable()  # no cycle may need it
    try:
        near.put("first", Held())
        reader = near.held["first"]  # does not keep what came after it
        known = []
        for number in range(6):
            value = Value()
            known.append(weakref.ref(value))
            near.put(str(number), Held(value=value))
        del value
        assert [one() is None for one in known] == [name not in near.held for name in "012345"]
        assert "first" not in near.held
        near.clear()
        assert not any(one() for one in known)
        del reader
    finally:
        gc.enable()


def test_a_value_may_use_the_store_when_it_ends():
    class Value:
        def __del__(self):
            near.drop("b")

    near = Near(max_entries=1, max_bytes=None)
    for name in ("a", "b", "c"):
        near.put(name, Held(value=Value()))
    near.drop("c")
    near.put("a", Held(value=Value()))
    near.put("a", Held(value=Value()))
    near.clear()
    check(near)


def test_a_forked_child_starts_empty():
    near = filled(5)
    marker = near.begin("a")
    with near._lock:  # held by a thread that is not there in the child
        child = os.fork()
        if child == 0:
            fine = not near.held and near.bytes == 0 and not near.settle(marker, Held())
            near.put("a", Held())
            os._exit(0 if fine and near.entries == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert near.entries == 5


def test_it_may_be_known_weakly():
    near = filled(1)
    known = weakref.WeakSet([near])
    assert near in known


def hammer(*works):
    """Run each in a thread of its own, all at once, and raise what any of them raised."""
    failed = []
    barrier = threading.Barrier(len(works))

    def run(work):
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@pytest.fixture
def impatient():
    """Threads take turns a thousand times more often than usual."""
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
def test_eight_threads_leave_it_whole():
    near = Near(max_entries=60, max_bytes=2000)

    def work(seed):
        rng = random.Random(seed)
        for _ in range(4000):
            name = f"n{rng.randrange(150)}"
            held = near.held.get(name)
            what = rng.random()
            if held is not None and what < 0.6:
                held.seen = True
            elif what < 0.9:
                near.settle(near.begin(name), Held(size=rng.randrange(100), source=seed))
            elif what < 0.95:
                near.put(name, Held(size=rng.randrange(100), until=time.monotonic()))
            elif what < 0.99:
                near.drop(name)
            elif what < 0.995:
                near.drop_source(seed)
            elif what < 0.998:
                near.prune(time.monotonic())
            else:
                near.clear()

    hammer(*(lambda seed=seed: work(seed) for seed in range(8)))
    check(near)
    assert not near._markers


@pytest.mark.usefixtures("impatient")
def test_no_reader_keeps_what_was_invalidated_while_it_read():
    """The server's value is one number; a writer raises it and then drops. After a drop nobody may keep an older one."""
    near = Near(max_entries=10, max_bytes=None)
    server = [0]
    stop = threading.Event()

    def write():
        for _ in range(3000):
            server[0] += 1
            near.drop("a")
            held = near.held.get("a")
            assert held is None or held.value >= server[0]
        stop.set()

    def read():
        while not stop.is_set():
            marker = near.begin("a")
            value = server[0]
            near.settle(marker, Held(value=value))

    hammer(write, *[read] * 7)
    check(near)
    assert near.held["a"].value == server[0] if "a" in near.held else True
