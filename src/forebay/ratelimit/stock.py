"""Units that were charged on the server before anybody asked for them, for keys that are hit very often: most hits then cost no round trip.

What is not used in time is given up, and never given back: so over any window the hits that pass are at most what the policy allows and,
for each process, one lease more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from msgspec.structs import replace

from ..forks import renew_after_fork
from ..port.port import Promise
from .rate import Rate
from .verdict import Verdict

__all__ = ["Refill", "Stock"]

_PRUNE_FROM: Final = 1000  # keys, from which on those whose time is over are looked for
_MOST: Final = 50_000  # keys; others are asked for one by one


class Refill:
    """Units are being charged; ``mine`` says that the caller is to do it."""

    __slots__ = ("mine", "promise")

    def __init__(self, promise: Promise[None], *, mine: bool) -> None:
        self.promise = promise
        self.mine = mine


class _Held:
    __slots__ = ("dry_until", "promise", "rates", "taken_at", "units", "until", "verdict")

    def __init__(self) -> None:
        self.units = 0
        self.rates: tuple[Rate, ...] = ()
        self.until = 0.0
        self.taken_at = 0.0
        self.dry_until = 0.0
        self.verdict: Verdict | None = None
        self.promise: Promise[None] | None = None


class Stock:
    """*size* units at a time, each of use for *lasting* seconds, by key. All changes happen under a lock."""

    def __init__(self, promise: Callable[[], Promise[Any]], size: int, lasting: float) -> None:
        self.size = size
        self._promise = promise
        self._lasting = lasting
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Be empty, in a forked child: what the parent holds is the parent's."""
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._prune_at = _PRUNE_FROM

    def take(self, key: str, cost: int, rates: tuple[Rate, ...]) -> Verdict | Refill | None:
        """Take *cost* units of *key*; or say that they are to be charged first, or (None) that this cost is to be asked for by itself.

        What was charged by other *rates* is given up.
        """
        if cost > self.size:
            return None
        with self._lock:
            held = self._held.get(key)
            now = monotonic()
            if held is None:
                if len(self._held) >= self._prune_at:
                    self._prune(now)
                    self._prune_at = max(_PRUNE_FROM, 2 * len(self._held))  # so that looking is paid for by what came in between
                if len(self._held) >= _MOST:
                    return None
                held = self._held[key] = _Held()
            if now >= held.until or (held.rates is not rates and held.rates != rates):
                held.units, held.rates = 0, rates
            if held.units >= cost and held.verdict is not None:
                held.units -= cost
                reset = max(0.0, held.verdict.reset_after - (now - held.taken_at))
                return replace(held.verdict, remaining=held.verdict.remaining + held.units, reset_after=reset, decided_by="lease")
            if held.promise is not None:
                return Refill(held.promise, mine=False)
            if now < held.dry_until:
                return None
            held.promise = self._promise()
            return Refill(held.promise, mine=True)

    def put(self, key: str, verdict: Verdict, promise: Promise[None]) -> None:
        """Keep the units that were charged, if *verdict* says so; else leave the key alone for a while."""
        if not verdict.allowed:
            self.dry(key, min(verdict.retry_after, self._lasting))
            return
        with self._lock:
            held = self._held.get(key)
            if held is None or held.promise is not promise:  # dropped meanwhile: a reset is not to be outlived
                return
            now = monotonic()
            held.units = self.size  # the few that were left are given up: a process never holds more than one lease
            held.until, held.taken_at, held.verdict = now + self._lasting, now, verdict

    def dry(self, key: str, seconds: float) -> None:
        """Charge no units ahead for *key* for so many *seconds*."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                held.dry_until = max(monotonic() + seconds, held.dry_until)

    def refilled(self, key: str, promise: Promise[None]) -> None:
        """Let those go on who wait for *promise*, whether or not there is more now."""
        with self._lock:
            held = self._held.get(key)
            if held is not None and held.promise is promise:
                held.promise = None
        promise.keep(None)

    def drop(self, key: str) -> None:
        """Forget the units of *key*, and those that are being charged."""
        with self._lock:
            held = self._held.pop(key, None)
        if held is not None and held.promise is not None:
            held.promise.keep(None)  # who wait look again

    def _prune(self, now: float) -> None:
        for key in [key for key, held in self._held.items() if held.promise is None and now >= max(held.until, held.dry_until)]:
            del self._held[key]

    def __repr__(self) -> str:
        return f"<Stock of {self.size}, {len(self._held)} keys>"
