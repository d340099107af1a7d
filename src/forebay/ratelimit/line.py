"""First come, first served: those of one process who wait for room stand in a line for each key, and only the first asks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..forks import renew_after_fork
from ..port.port import Promise

__all__ = ["Line", "Place"]


class Place:
    """Where one caller stands."""

    __slots__ = ("_key", "_line", "turn")

    def __init__(self, line: Line, key: str, turn: Promise[None]) -> None:
        self._line = line
        self._key = key
        self.turn = turn

    async def reached(self, timeout: float | None) -> bool:
        """Wait until all who came before have left; False if that took longer than *timeout* seconds."""
        if self._line.first(self._key) is self:
            return True
        try:
            await self.turn.wait(None if timeout is None else max(0.0, timeout))
        except TimeoutError:
            return self._line.first(self._key) is self
        return True

    def leave(self) -> None:
        """Make room for the next, wherever in the line this is."""
        self._line.leave(self._key, self)


class Line:
    """The lines of one limiter. All changes happen under a lock; who is next is told without it."""

    def __init__(self, promise: Callable[[], Promise[Any]]) -> None:
        self._promise = promise
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with nobody waiting, in a forked child."""
        self._lock = threading.Lock()
        self._lines: dict[str, deque[Place]] = {}

    def stand(self, key: str) -> Place:
        """Stand at the end of the line. Whoever does must `Place.leave`."""
        place = Place(self, key, self._promise())
        with self._lock:
            self._lines.setdefault(key, deque()).append(place)
        return place

    def first(self, key: str) -> Place | None:
        """Return whose turn it is."""
        with self._lock:
            line = self._lines.get(key)
            return line[0] if line else None

    def leave(self, key: str, place: Place) -> None:
        """Take *place* out of the line; the next learns of it if it is the first now."""
        with self._lock:
            line = self._lines.get(key)
            if line is None or place not in line:
                return
            was_first = line[0] is place
            line.remove(place)
            following = line[0] if line and was_first else None
            if not line:
                del self._lines[key]
        if following is not None:
            following.turn.keep(None)

    def __repr__(self) -> str:
        return f"<Line, {sum(map(len, list(self._lines.values())))} waiting>"
