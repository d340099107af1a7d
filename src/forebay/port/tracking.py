"""What servers tell of changed keys, for a whole bay: passed on to every near tier, and to those who wait for one key.

A push wakes and drops; it decides nothing: whoever is woken reads again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol
from weakref import ref

from ..forks import renew_after_fork

__all__ = ["Follower", "Tracking"]


class Follower(Protocol):
    """Holds what was read, and drops it when it may have changed."""

    def drop(self, name: bytes) -> None:
        """The value of *name* has changed."""

    def drop_under(self, head: bytes) -> None:
        """The values of all names that begin with *head* may have changed."""

    def drop_all(self, source: object | None) -> None:
        """Whatever *source* tracked may have changed; None: whatever any connection did."""


class Tracking:
    """A bay's `Listener`. All changes happen under a lock, for loops and threads share it; those who are told, are told without."""

    def __init__(self) -> None:
        self._followers: tuple[ref[Follower], ...] = ()  # replaced, never changed: it is gone through while others come
        self._watchers: dict[bytes, set[Callable[[], None]]] = {}
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with nobody waiting, in a forked child."""
        self._lock = threading.Lock()
        self._watchers = {}

    def follow(self, follower: Follower) -> None:
        """Tell *follower*, as long as it lives."""
        with self._lock:
            self._followers = (*(each for each in self._followers if each() is not None), ref(follower))

    def watch(self, name: bytes, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* when *name* may have changed, perhaps from another thread; return what ends that."""
        with self._lock:
            self._watchers.setdefault(name, set()).add(wake)

        def end() -> None:
            with self._lock:
                wakes = self._watchers.get(name, set())
                wakes.discard(wake)
                if not wakes:
                    self._watchers.pop(name, None)

        return end

    def changed(self, names: list[bytes]) -> None:
        """Drop *names* everywhere in this process, before it changes them on the server and again when that is acknowledged."""
        for follower in self._following():
            for name in names:
                follower.drop(name)

    def swept(self, head: bytes) -> None:
        """Drop every name that begins with *head* everywhere in this process."""
        for follower in self._following():
            follower.drop_under(head)

    # wire.tracking.Listener

    def invalidated(self, source: object, names: list[bytes] | None) -> None:
        if names is None:
            self.lost(source)
            return
        self.changed(names)
        if self._watchers:
            for name in names:
                self._wake(name)

    def lost(self, source: object | None) -> None:
        for follower in self._following():
            follower.drop_all(source)
        for name in list(self._watchers):
            self._wake(name)

    def _following(self) -> list[Follower]:
        return [follower for each in self._followers if (follower := each()) is not None]

    def _wake(self, name: bytes) -> None:
        with self._lock:
            wakes = list(self._watchers.get(name, ()))
        for wake in wakes:
            wake()

    def __repr__(self) -> str:
        return f"<Tracking, {len(self._followers)} follow, {len(self._watchers)} keys are waited for>"
