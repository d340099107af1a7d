"""Deadlines that cost no timer and no task per command: one FIFO of batches, of which only the oldest is ever looked at."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

__all__ = ["Deadlines"]


class Deadlines:
    """When the places of one session fall due. Places are counted, never listed: all of a batch are due together.

    ``timeout`` is how long one place may wait; ``silence`` is how long the connection may bring no byte at all while
    something is awaited. Times are seconds of one monotonic clock, passed in by the caller.
    """

    __slots__ = ("_batches", "_hurried", "_told", "answered", "heard_at", "sent_places", "silence", "timeout")

    def __init__(self, timeout: float, silence: float, now: float) -> None:
        self.timeout = timeout
        self.silence = silence
        self.sent_places = 0
        self.answered = 0
        self.heard_at = now
        self._told = 0  # places up to here were reported as overdue
        self._hurried = [0, 0, 0]  # and up to here as impatient, in each kind of hurry
        self._batches: deque[tuple[float, int, int, Sequence[bytes]]] = deque()  # due, places sent up to its end, bytes, commands

    def sent(self, places: int, now: float, size: int = 0, commands: Sequence[bytes] = ()) -> None:
        """Note that *places* more *commands*, of *size* bytes, left in one write."""
        if self.answered == self.sent_places:
            self.heard_at = now
        self.sent_places += places
        self._batches.append((now + self.timeout, self.sent_places, size, commands))

    def heard(self, answered: int, now: float) -> int:
        """Note that bytes arrived, and that they answered so many places; return the bytes of the batches that are done."""
        self.heard_at = now
        self.answered += answered
        total, done, batches = self.answered, 0, self._batches
        while batches and batches[0][1] <= total:
            done += batches.popleft()[2]
        return done

    def overdue(self, now: float) -> int:
        """Return how many of the oldest unanswered places are newly past their deadline, counted from the oldest unanswered one."""
        past = self.answered
        for due, end, _, _ in self._batches:
            if due > now:
                break
            past = end
        if past <= self._told:
            return 0
        self._told = past
        return past - self.answered

    def impatient(self, now: float, patience: float, hurry: int) -> tuple[int, list[bytes]]:
        """Return the commands newly unanswered for longer than *patience*, and how many unanswered places stand before them.

        What is new is counted for each kind of *hurry*; the commands may be of any.
        """
        late: list[bytes] = []
        begin, oldest = max(self.answered, self._hurried[hurry]), now - patience + self.timeout
        for due, end, _, commands in self._batches:
            if due > oldest:
                break
            if end > begin:
                late += commands[begin - end :]
                begin = self._hurried[hurry] = end
        return begin - len(late) - self.answered, late

    def next_impatient(self, now: float, patience: float, hurry: int) -> float:
        """Return when the next command will have waited for longer than *patience*; a whole *patience* from now if none is under way."""
        known = self._hurried[hurry]
        return next((due - self.timeout + patience for due, end, _, _ in self._batches if end > known), now + patience)

    def silent(self, now: float) -> bool:
        """Whether the peer has owed a reply, and sent nothing, for as long as ``silence``."""
        return self.sent_places > self.answered and now - self.heard_at >= self.silence

    def oldest(self) -> bytes | None:
        """Return the oldest unanswered command, if commands were given."""
        if not self._batches:
            return None
        _, end, _, commands = self._batches[0]
        return commands[self.answered - end] if commands else None

    def oldest_wait(self, now: float) -> float:
        """Return for how long the oldest unanswered batch has been waiting."""
        return max(0.0, now - (self._batches[0][0] - self.timeout)) if self._batches and self.timeout < math.inf else 0.0

    def next_look(self) -> float | None:
        """Return when to look again, or None while nothing is awaited."""
        if self.sent_places == self.answered:
            return None
        over = self.heard_at + self.silence
        return min(over, next((due for due, end, _, _ in self._batches if end > self._told), over))
