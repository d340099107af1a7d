"""Single flight: at most one load of a key is under way in a process, and whoever may share it does.

A caller shares a load that has not begun yet, or whose token it has itself just read under the key: then no invalidation came
in between. Without a lease there is no token: who comes while such a load runs waits for the next one. All changes happen in
locked methods, for threads interleave where asyncio does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from ..forks import renew_after_fork
from ..port.port import Promise

__all__ = ["Flight", "Flights", "Found", "aloft"]

aloft: Final[ContextVar[frozenset[Flight]]] = ContextVar("forebay_aloft", default=frozenset())
"""The flights whose loaders the present code runs in, to refuse a loader that waits for itself."""


class Found:
    """What a flight brings: encoded bytes. Those ``read`` by it are not for who came aboard after the read was sent.

    None says that there is a value that stands in for a load which failed elsewhere: each caller looks at it for itself.
    """

    __slots__ = ("packed", "read")

    def __init__(self, packed: bytes | None, *, read: bool) -> None:
        self.packed = packed
        self.read = read


class _Nothing:
    """A promise that nobody waits for."""

    def keep(self, value: object) -> None:
        """Never called."""

    def fail(self, error: BaseException) -> None:
        """Never called."""

    async def wait(self, timeout: float | None = None) -> Found:  # noqa: ARG002
        raise AssertionError("nobody waits for it")


class Flight:
    """One search for a value: a load, or waiting for somebody else's. ``promise`` carries what was found to all who wait."""

    __slots__ = ("after", "asked", "cancel", "ended", "kind", "name", "open", "promise", "token", "versions", "waiting")

    def __init__(self, name: str, kind: object, promise: Promise[Found], after: Flight | None) -> None:
        self.name = name
        self.kind = kind
        self.promise = promise
        self.after = after
        self.waiting = 0
        self.open = True
        self.asked = False  # a read or a lease was asked for, and what it brings may be older than who comes now
        self.ended = False
        self.token = b""
        self.versions: Any = ()
        self.cancel: Callable[[], None] | None = None

    @classmethod
    def under(cls, name: str, token: bytes) -> Flight:
        """Return what stands in `aloft` for a load that nobody joins: one of many keys at once."""
        flight = cls(name, None, _Nothing(), None)
        flight.token = token
        return flight

    @property
    def alone(self) -> bool:
        """Whether a load runs without a lease."""
        return not self.open and not self.token

    def __repr__(self) -> str:
        return f"<Flight {self.name!r}, {self.waiting} waiting{'' if self.open else ', loading'}>"


class Flights:
    """All flights of one bay, by name in Redis and by the type that is loaded."""

    def __init__(self, promise: Callable[[], Promise[Any]]) -> None:
        self._promise = promise
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with no flight: at the start, and in a forked child, where the parent's loads do not run."""
        self._lock = threading.Lock()
        self._current: dict[tuple[str, object], Flight] = {}

    def board(self, name: str, kind: object, token: bytes = b"") -> tuple[Flight, bool, bool]:
        """Join the flight of *name* if that may be shared, or start one. *token* is what the caller has read under the key.

        Returns:
            The flight, whether the caller leads it, and whether it comes too late for what the flight itself has read.
        """
        with self._lock:
            current = self._current.get((name, kind))
            shown = current is not None and bool(token) and current.token == token
            if current is not None and (current.open or shown):
                current.waiting += 1
                return current, False, current.asked and not shown
            after = current if current is not None and current.alone else None
            flight = self._current[name, kind] = Flight(name, kind, self._promise(), after)
            flight.waiting = 1
            return flight, True, False

    def under_way(self, name: str, kind: object) -> Flight | None:
        """Return the flight of *name*, if there is one."""
        return self._current.get((name, kind))

    def lead(self, name: str, kind: object, token: bytes) -> Flight:
        """Start a flight that has the lease already, for nobody in particular; who reads its token may join."""
        with self._lock:
            flight = self._current[name, kind] = Flight(name, kind, self._promise(), None)
            flight.waiting = 1  # the lease itself
            flight.token = token
            flight.open = False
            return flight

    def ask(self, flight: Flight) -> None:
        """What comes aboard from now on is too late for the read that is sent next."""
        with self._lock:
            flight.asked = True

    def show(self, flight: Flight, token: bytes) -> None:
        """The flight waits for *token*, or loads under it: from now on only who has read that may join. None: nobody."""
        with self._lock:
            flight.open = False
            flight.token = token

    def reopen(self, flight: Flight) -> None:
        """What the flight waited for is gone: it looks anew, and anybody may join."""
        with self._lock:
            flight.open = not flight.ended
            flight.token = b""
            if self._current.get((flight.name, flight.kind)) is not flight:
                flight.open = False

    def leave(self, flight: Flight) -> None:
        """Stop waiting. When nobody waits any more, what is still under way is cancelled."""
        with self._lock:
            flight.waiting -= 1
            abandoned = not flight.waiting and not flight.ended
            if abandoned:
                self._remove(flight)
        if abandoned and flight.cancel is not None:
            flight.cancel()

    def land(self, flight: Flight) -> None:
        """End *flight*."""
        with self._lock:
            flight.ended = True
            flight.open = False
            self._remove(flight)

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return sum(flight.waiting for flight in list(self._current.values()))

    def __len__(self) -> int:
        return len(self._current)

    def _remove(self, flight: Flight) -> None:
        if self._current.get((flight.name, flight.kind)) is flight:
            del self._current[flight.name, flight.kind]
