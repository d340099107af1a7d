"""Deadlines that cost no timer and no task per command: one FIFO of batches, of which only the oldest is ever looked at."""

from __future__ import annotations

from collections import deque

__all__ = ["Deadlines"]


class Deadlines:
    """When the places of one session fall due. Places are counted, never listed: all of a batch are due together.

    ``timeout`` is how long one place may wait; ``silence`` is how long the connection may bring no byte at all while
    something is awaited. Times are seconds of one monotonic clock, passed in by the caller.
    """

    __slots__ = ("_answered", "_batches", "_heard", "_sent", "silence", "timeout")

    def __init__(self, timeout: float, silence: float, now: float) -> None:
        self.timeout = timeout
        self.silence = silence
        self._sent = 0
        self._answered = 0
        self._heard = now
        self._batches: deque[tuple[float, int]] = deque()

    def sent(self, places: int, now: float) -> None:
        """Note that *places* more commands left in one write."""
        if self._answered == self._sent:
            self._heard = now
        self._sent += places
        self._batches.append((now + self.timeout, self._sent))

    def heard(self, answered: int, now: float) -> None:
        """Note that bytes arrived, and that they answered so many places."""
        self._heard = now
        self._answered += answered
        batches = self._batches
        while batches and batches[0][1] <= self._answered:
            batches.popleft()

    def overdue(self, now: float) -> int:
        """Return how many of the oldest unanswered places are newly past their deadline, counted from the oldest unanswered one."""
        past = self._answered
        while self._batches and self._batches[0][0] <= now:
            past = self._batches.popleft()[1]
        return past - self._answered

    def silent(self, now: float) -> bool:
        """Whether the peer has owed a reply, and sent nothing, for as long as ``silence``."""
        return self._sent > self._answered and now - self._heard >= self.silence

    def next_look(self) -> float | None:
        """Return when to look again, or None while nothing is awaited."""
        if self._sent == self._answered:
            return None
        over = self._heard + self.silence
        return min(over, self._batches[0][0]) if self._batches else over
