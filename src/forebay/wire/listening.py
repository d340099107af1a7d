"""threads: a connection whose pushes are listened to, one at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from ..errors import ConnectionLost, ServerError
from .connection import Connection
from .resp import Push, Reply

__all__ = ["BlockingStream"]

_LOOK_EVERY = 0.25  # a listener sees within this time that another thread closed the stream


class BlockingStream:
    """The threads' colour of `Stream`. A silent connection is asked for a sign of life, and given up if it gives none."""

    def __init__(self, ping_every: float, read_timeout: float) -> None:
        self.connection: Connection
        self._ping_every = ping_every
        self._read_timeout = read_timeout
        self._heard_at = time.monotonic()
        self._pushes: deque[Push | ServerError] = deque()
        self._sending = threading.Lock()

    def take(self, push: Push | ServerError) -> None:
        """Keep *push* for `next`."""
        self._pushes.append(push)

    async def send(self, packed: bytes) -> None:
        """Send a command whose answer is pushes."""
        with self._sending:
            self.connection.push(packed)

    async def ask(self, packed: Sequence[bytes]) -> list[Reply]:
        """Send commands that are answered, and return their replies, refusals as values."""
        return self.connection.call_batch(packed)

    async def next(self, timeout: float | None) -> Push | None:
        """Return the next push, or None if none came within *timeout* seconds.

        Raises:
            ConnectionLost: there will be no more.
            ServerError: the server refused what was sent.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while not self._pushes:
            now = time.monotonic()
            left = _LOOK_EVERY if limit is None else min(_LOOK_EVERY, limit - now)
            if left <= 0:
                return None
            self._look_after(now)
            if self.connection.listen(left):
                self._heard_at = time.monotonic()
        push = self._pushes.popleft()
        if isinstance(push, ServerError):
            raise push
        return push

    async def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _look_after(self, now: float) -> None:
        silent = now - self._heard_at
        if self.connection.owes:
            if silent > self._ping_every + 2 * self._read_timeout:
                self.connection.close()
                raise ConnectionLost(f"connection to {self.connection.address} lost: nothing was heard for {silent:.3g} s")
        elif silent >= self._ping_every:
            with self._sending:
                self.connection.ask_for_life()
