"""What to do after a failure. Only what cannot have run, or may run twice, is repeated; a node that keeps failing is left alone.

Never sent or refused: repeated. Unknown outcome: repeated if it only reads or is marked idempotent. All within the caller's
deadline. Pauses double and are drawn from the whole interval ("full jitter", M. Brooker, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, Literal

from ..errors import CircuitOpen, ConnectFailed, OutcomeUnknown, Redirected, Refused, Unavailable
from ..forks import renew_after_fork

__all__ = ["LASTING", "Breaker", "BreakerState", "may_repeat", "pause_before"]

BreakerState = Literal["closed", "open", "half-open"]

FIRST_PAUSE: Final = 0.008
LONGEST_PAUSE: Final = 0.5
FAILURES: Final = 5  # in a row, until a breaker opens
OPEN_FOR: Final = 0.4  # seconds at most, at least half of it

# Refusals that waiting rarely mends: the operator's move is next, and the caller should hear of it at once.
LASTING: Final = frozenset({"MISCONF", "NOREPLICAS", "OOM"})


def pause_before(attempt: int, draw: Callable[[], float] = random.random) -> float:
    """Return how many seconds to wait before repeat number *attempt* (1 is the first)."""
    return draw() * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))


def may_repeat(error: Unavailable, *, repeatable: bool) -> bool:
    """Whether the command behind *error* may be sent again; *repeatable* says that running twice does no harm.

    ``CircuitOpen`` says to leave the node alone, and an overdue command has no time left: neither is repeated.
    """
    if isinstance(error, Redirected):
        return True
    if isinstance(error, Refused):
        return error.code not in LASTING
    if isinstance(error, OutcomeUnknown):
        return repeatable and not isinstance(error, TimeoutError)
    return isinstance(error, ConnectFailed) and not isinstance(error, CircuitOpen)


class Breaker:
    """Watches one node. After `FAILURES` failures in a row it opens, and calls fail at once; then one probe decides.

    Thread-safe. The happy path reads ``closed`` and ``troubled`` and nothing else.
    """

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random) -> None:
        self.closed = True
        self.troubled = False  # the last that was heard of the node is a failure
        self._where = where
        self._clock = clock
        self._draw = draw
        self._failures = 0
        self._until = 0.0  # an open breaker lets a probe through after this
        self._pause_until = 0.0  # a closed one spaces its dials
        self._probing = False
        self._cause: BaseException | None = None
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin anew, in a forked child: a probe of the parent is not ours."""
        self._lock = threading.Lock()
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """``closed`` (calls pass), ``open`` (they fail at once) or ``half-open`` (one probe is under way)."""
        return "closed" if self.closed else "half-open" if self._probing else "open"

    def admit(self) -> bool:
        """Whether the caller is the probe, which must end in `succeeded`, `probe_failed` or `abandoned`. False while closed.

        Raises:
            CircuitOpen: the node is left alone for now.
        """
        with self._lock:
            if self.closed:
                return False
            if self._probing or self._clock() < self._until:
                raise self.refusal() from self._cause
            self._probing = True
            return True

    def refusal(self) -> CircuitOpen:
        """Return the error for a call that is not let through."""
        return CircuitOpen(f"{self._where} failed {self._failures} times in a row and is left alone for a moment; last: {self._cause}")

    def pause(self) -> float:
        """Return how many seconds to wait before dialling after a failure; 0 after a success, and for a probe."""
        return 0.0 if self._probing else max(0.0, self._pause_until - self._clock())

    def succeeded(self) -> None:
        """Note a sign of life: the breaker closes."""
        with self._lock:
            self.closed = True
            self.troubled = False
            self._probing = False
            self._failures = 0
            self._pause_until = 0.0
            self._cause = None

    def failed(self, cause: BaseException, times: int = 1) -> bool:
        """Note failures (a lost connection, a dial that failed, replies overdue); return whether the breaker opened now."""
        with self._lock:
            self.troubled = True
            self._failures += times
            self._cause = cause
            now = self._clock()
            self._pause_until = now + pause_before(self._failures, self._draw)
            if self._failures < FAILURES or not self.closed:
                return False
            self.closed = False
            self._until = now + OPEN_FOR * (0.5 + 0.5 * self._draw())
            return True

    def probe_failed(self, cause: BaseException) -> None:
        """Note that the probe found the node ill: the breaker stays open for another while."""
        self.failed(cause)
        with self._lock:
            self._probing = False
            self._until = self._clock() + OPEN_FOR * (0.5 + 0.5 * self._draw())

    def abandoned(self) -> None:
        """Note that the probe was cancelled before it decided: the next caller may be the probe."""
        with self._lock:
            self._probing = False

    def __repr__(self) -> str:
        return f"<Breaker {self._where} {self.state}, {self._failures} failures in a row>"
