"""threads: a connection whose pushes are listened to, one at a time."""

from __future__ import annotations

import threading
import time
from collections import deque

from .connection import Connection
from .resp import Push

__all__ = ["BlockingStream"]

_LOOK_EVERY = 0.25  # a listener sees within this time that another thread closed the stream


class BlockingStream:
    """The threads' colour of `Stream`."""

    def __init__(self) -> None:
        self.connection: Connection
        self._pushes: deque[Push] = deque()
        self._sending = threading.Lock()

    def take(self, push: Push) -> None:
        """Keep *push* for `next`."""
        self._pushes.append(push)

    async def send(self, packed: bytes) -> None:
        """Send a command whose answer is pushes."""
        with self._sending:
            self.connection.push(packed)

    async def next(self, timeout: float | None) -> Push | None:
        """Return the next push, or None if none came within *timeout* seconds.

        Raises:
            ConnectionLost: there will be no more.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while not self._pushes:
            left = _LOOK_EVERY if limit is None else min(_LOOK_EVERY, limit - time.monotonic())
            if left <= 0:
                return None
            self.connection.listen(left)
        return self._pushes.popleft()

    async def close(self) -> None:
        """Close the connection."""
        self.connection.close()
