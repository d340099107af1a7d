"""Single flight: at most one load of a key is under way in a process, and whoever needs that key meanwhile shares it.

An invalidation in this process voids the flight: those aboard still get their value, but it is not stored, and nobody
joins any more. All changes happen in locked methods, for threads interleave where asyncio does not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final

from ..forks import renew_after_fork
from ..port.port import Promise

__all__ = ["Flight", "Flights", "aloft"]

_LANDINGS_KEPT: Final = 4096

aloft: Final[ContextVar[frozenset[Flight]]] = ContextVar("forebay_aloft", default=frozenset())
"""The flights whose loaders the present code runs in, to refuse a loader that waits for itself."""


class Flight:
    """One load under way. ``promise`` carries the encoded value to all who wait."""

    __slots__ = ("cancel", "kind", "landed", "name", "promise", "void", "waiting")

    def __init__(self, name: str, kind: object, promise: Promise[bytes]) -> None:
        self.name = name
        self.kind = kind
        self.promise = promise
        self.waiting = 0
        self.void = False
        self.landed = False
        self.cancel: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Flight {self.name!r}, {self.waiting} waiting{', void' if self.void else ''}>"


class Flights:
    """All flights of one bay, by name in Redis and by the type that is loaded."""

    def __init__(self, promise: Callable[[], Promise[Any]]) -> None:
        self._promise = promise
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with no flight: at the start, and in a forked child, where the parent's loads do not run."""
        self._lock = threading.Lock()
        self._by_name: dict[str, dict[object, Flight]] = {}
        self._landed: OrderedDict[str, int] = OrderedDict()
        self._landings = 0

    def mark(self) -> int:
        """Return a point in time for `landed_since`, to be taken before the entry is read."""
        return self._landings

    def landed_since(self, name: str, mark: int) -> bool:
        """Whether a flight of *name* ended well after *mark*: then the entry is worth a second look before loading it."""
        return self._landed.get(name, -1) > mark

    def board(self, name: str, kind: object) -> tuple[Flight, bool]:
        """Join the flight of *name*, or start one; the second value says whether the caller leads it."""
        with self._lock:
            flights = self._by_name.setdefault(name, {})
            flight = flights.get(kind)
            leads = flight is None
            if flight is None:
                flight = flights[kind] = Flight(name, kind, self._promise())
            flight.waiting += 1
            return flight, leads

    def leave(self, flight: Flight) -> None:
        """Stop waiting. When nobody waits any more, a load that is still under way is cancelled."""
        with self._lock:
            flight.waiting -= 1
            abandoned = not flight.waiting and not flight.landed
            if abandoned:
                self._remove(flight)
        if abandoned and flight.cancel is not None:
            flight.cancel()

    def land(self, flight: Flight, *, well: bool) -> None:
        """End *flight*; *well* says that its value was loaded."""
        with self._lock:
            flight.landed = True
            self._remove(flight)
            if well and not flight.void:
                self._landings += 1
                self._landed[flight.name] = self._landings
                self._landed.move_to_end(flight.name)
                if len(self._landed) > _LANDINGS_KEPT:
                    self._landed.popitem(last=False)

    def void(self, names: Iterable[str]) -> None:
        """Let the flights of *names* store nothing and take nobody else aboard: their keys were just written or removed."""
        if not self._by_name:
            return
        with self._lock:
            for name in names:
                self._void(name)

    def void_under(self, head: str) -> None:
        """Void every flight whose name begins with *head*."""
        with self._lock:
            for name in [name for name in self._by_name if name.startswith(head)]:
                self._void(name)

    def __len__(self) -> int:
        return sum(len(flights) for flights in self._by_name.values())

    def _void(self, name: str) -> None:
        for flight in self._by_name.pop(name, {}).values():
            flight.void = True

    def _remove(self, flight: Flight) -> None:
        flights = self._by_name.get(flight.name, {})
        if flights.get(flight.kind) is flight:
            del flights[flight.kind]
            if not flights:
                del self._by_name[flight.name]
