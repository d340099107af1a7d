"""What a process keeps of what the server told it, bounded in entries and in bytes: a hit costs one lookup and one mark.

Readers look into ``Near.held`` without a lock and mark what they found; everything that changes the store is one method
under one lock. Who is kept is decided when room is needed, by three queues and that mark (after S3-FIFO, Yang and others,
SOSP 2023; measured against others in docs/decisions/0008-near-policy.md). What is new is *on trial*, in a twentieth of the
store: whoever was not seen there by the end of it goes, so that a scan passes through without harm. The others are
*settled*: a hand walks over them, forgives whoever was seen since it last came, and takes the first that was not. Names that
failed the trial are remembered for a while, as hashes: one that is asked for again has shown its worth and settles at once.
So is a name that was dropped while it was in demand.

A reply may be kept only if nothing was invalidated since its read was sent. A marker stands for such a read: whatever
drops a name strikes its markers off, and a marker that is not listed any more keeps nothing.
"""

from __future__ import annotations

import math
import threading
import time

from msgspec import UNSET

from forebay.forks import renew_after_fork

__all__ = ["Held", "Marker", "Near"]

_TRIAL = 20  # one in so many entries is on trial


class Held:
    """One entry as it is kept. It belongs to one store, under one name, and is not changed after it was put there, save ``seen``."""

    __slots__ = ("data", "name", "newer", "older", "seen", "size", "source", "trial", "until", "value", "versions")

    name: str  # these four are the store's
    newer: Held
    older: Held
    trial: bool

    def __init__(
        self,
        *,
        value: object = UNSET,
        data: bytes = b"",
        until: float = math.inf,
        source: object = None,
        versions: tuple[tuple[str, bytes], ...] = (),
        size: int = 0,
    ) -> None:
        self.value = value  #: what callers share; UNSET if each decodes ``data`` for itself
        self.data = data
        self.until = until  #: on the clock of time.monotonic(); from then on it is of no use
        self.source = source  #: the connection that tracks it
        self.versions = versions
        self.size = size
        self.seen = False  #: set by readers, cleared by the hand


class Marker:
    """A tracked read that is under way."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Near:
    """The store. ``held`` is one dict for good: it may be kept at hand by those who read it; only this class changes it."""

    __slots__ = (
        "__weakref__",
        "_absent",
        "_absent_before",
        "_hand",
        "_lock",
        "_markers",
        "_max_bytes",
        "_max_entries",
        "_on_trial",
        "_settled",
        "_trials",
        "bytes",
        "evictions",
        "held",
    )

    def __init__(self, *, max_entries: int | None, max_bytes: int | None) -> None:
        for bound in (max_entries, max_bytes):
            if bound is not None and bound < 1:
                raise ValueError(f"a near tier is bounded by at least 1, not by {bound}")
        self._max_entries = math.inf if max_entries is None else max_entries
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self.held: dict[str, Held] = {}
        self._trials = Held()  # two rings, each closed by an entry that stands for nobody: from it, newer by newer,
        self._settled = Held()  # come the oldest, ..., the newest, and itself again
        self._begin_anew()
        renew_after_fork(self)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._markers: dict[str, Marker | set[Marker]] = {}  # by name; a set only where there are several
        self._trials.newer = self._trials.older = self._trials
        self._hand = self._settled.newer = self._settled.older = self._settled
        self._on_trial = 0
        self._absent: set[int] = set()
        self._absent_before: set[int] = set()
        self.bytes = 0
        self.evictions = 0

    @property
    def entries(self) -> int:
        """How many are held."""
        return len(self.held)

    def put(self, name: str, held: Held) -> None:
        """Keep *held* under *name* in place of what was there, and evict others for it.

        What is above the bound by itself is not kept; nor is what was there, because it is older.
        """
        gone: list[Held] = []  # freed after the lock is: what a value does at its end is not ours to know
        with self._lock:
            self._put(name, held, gone)

    def drop(self, name: str) -> bool:
        """Forget *name*, and keep no reply to a read of it that is under way. Say whether it was held."""
        with self._lock:
            self._markers.pop(name, None)
            held = self.held.get(name)
            if held is not None:
                self._part(held)
        return held is not None

    def drop_under(self, head: str) -> int:
        """Forget every name that begins with *head*, and keep no reply to a read that is under way. Return how many went."""
        with self._lock:
            self._markers.clear()
            gone = [held for name, held in self.held.items() if name.startswith(head)]
            for held in gone:
                self._part(held)
        return len(gone)

    def drop_source(self, source: object) -> int:
        """Forget everything that *source* tracks, and keep no reply that is under way. Return how many went."""
        with self._lock:
            self._markers.clear()
            gone = [held for held in self.held.values() if held.source is source]
            for held in gone:
                self._remove(held)
        return len(gone)

    def clear(self) -> int:
        """Forget everything, and keep no reply that is under way. Return how many went."""
        with self._lock:
            self._markers.clear()
            gone = list(self.held.values())
            for held in gone:  # one by one: a ring of neighbours would be left to the garbage collector
                self._remove(held)
        return len(gone)

    def prune(self, now: float) -> int:
        """Forget what is past its time. Return how many went."""
        with self._lock:
            gone = [held for held in self.held.values() if held.until <= now]
            for held in gone:
                self._part(held)
        return len(gone)

    def begin(self, name: str) -> Marker:
        """Note that a tracked read of *name* is about to be sent. Each marker must be settled, also if the read fails."""
        marker = Marker(name)
        with self._lock:
            others = self._markers.setdefault(name, marker)
            if isinstance(others, set):
                others.add(marker)
            elif others is not marker:
                self._markers[name] = {others, marker}
        return marker

    def settle(self, marker: Marker, held: Held | None) -> bool:
        """End *marker*, and keep *held*, if there is one, unless its name was dropped meanwhile. Say whether it is kept."""
        gone: list[Held] = []
        with self._lock:
            listed = self._markers.get(marker.name)
            if isinstance(listed, set) and marker in listed:
                listed.remove(marker)
                if not listed:
                    del self._markers[marker.name]
            elif listed is marker:
                del self._markers[marker.name]
            else:
                return False
            return held is not None and self._put(marker.name, held, gone)

    def renew(self) -> None:
        """Be empty: a forked child has no connection that would tell it what changed."""
        self.held.clear()
        self._begin_anew()

    def __repr__(self) -> str:
        return f"<Near: {self.entries} of {self._max_entries} entries, {self.bytes} of {self._max_bytes} bytes, {self.evictions} evicted>"

    def _put(self, name: str, held: Held, gone: list[Held]) -> bool:
        before = self.held.get(name)
        if before is not None:
            gone.append(before)
            self._remove(before)
        if held.size > self._max_bytes:
            return False
        while len(self.held) >= self._max_entries or self.bytes + held.size > self._max_bytes:
            gone.append(self._evict())
        held.name = name
        if before is None and not self._recall(name):
            held.trial = True
            self._on_trial += 1
            follower = self._trials
        else:
            held.trial = False
            follower = self._hand  # behind the hand: the last that it comes to
        held.newer = follower
        held.older = older = follower.older
        older.newer = follower.older = held
        self.held[name] = held
        self.bytes += held.size
        return True

    def _evict(self) -> Held:
        while True:
            if self._on_trial * _TRIAL >= len(self.held):
                held = self._trials.newer
                if not held.seen or held.until <= time.monotonic():
                    self._remember(held.name)
                    break
                self._settle(held)
            else:
                held = self._hand
                if held is not self._settled and (not held.seen or held.until <= time.monotonic()):
                    break
                held.seen = False
                self._hand = held.newer
        self._remove(held)
        self.evictions += 1
        return held

    def _settle(self, held: Held) -> None:
        self._on_trial -= 1
        held.trial = held.seen = False
        held.older.newer, held.newer.older = held.newer, held.older
        held.older, held.newer = self._hand.older, self._hand
        held.older.newer = held.newer.older = held

    def _part(self, held: Held) -> None:
        if held.seen or not held.trial:
            self._remember(held.name)  # what changes is still asked for: its place is kept, not its value
        self._remove(held)

    def _remove(self, held: Held) -> None:
        older, newer = held.older, held.newer
        older.newer, newer.older = newer, older
        del held.older, held.newer  # a reader who still has it must not keep all that came after it alive
        if held.trial:
            self._on_trial -= 1
        elif held is self._hand:
            self._hand = newer
        del self.held[held.name]
        self.bytes -= held.size

    def _remember(self, name: str) -> None:
        # Two sets take turns, each half as large as the store: no queue is needed to forget the oldest.
        self._absent.add(hash(name))
        if len(self._absent) * 2 > len(self.held):
            self._absent_before, self._absent = self._absent, set()

    def _recall(self, name: str) -> bool:
        known = hash(name)
        if known in self._absent:
            self._absent.remove(known)
        elif known in self._absent_before:
            self._absent_before.remove(known)
        else:
            return False
        return True
