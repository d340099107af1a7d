"""The server's clock, as known here: all times in entries are its milliseconds, so that no client's clock matters.

It is estimated from ``TIME``, to within half a round trip, and asked again every minute; in between runs the local
monotonic clock, which nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from .port import Port, Reply

__all__ = ["ServerClock"]

_TRUSTED_FOR: Final = 60.0  # seconds


class ServerClock:
    """Milliseconds on the server."""

    def __init__(self, port: Port, clock: Callable[[], float] = time.monotonic) -> None:
        self._port = port
        self._clock = clock
        self._offset = 0.0
        self._due = float("-inf")

    @property
    def due(self) -> bool:
        """Whether the estimate is missing or old."""
        return self._clock() >= self._due

    def now(self) -> float:
        """Return the estimate, which must not be missing; see `ask`."""
        return self._clock() * 1000 + self._offset

    async def ask(self) -> float:
        """Return the time, after asking the server if the estimate is missing or old.

        Raises:
            Unavailable: it had to be asked, and could not be.
        """
        if self.due:
            began = self._clock()
            self.take(await self._port.execute("time"), began)
        return self.now()

    def take(self, reply: Reply, began: float) -> None:
        """Learn from a reply to ``TIME`` that was asked for at *began*."""
        ended = self._clock()
        seconds, microseconds = reply
        self._offset = (int(seconds) + int(microseconds) / 1_000_000 - (began + ended) / 2) * 1000
        self._due = ended + _TRUSTED_FOR

    def __repr__(self) -> str:
        return f"<ServerClock {'unknown' if self.due else f'{self._offset:+.0f} ms'}>"
