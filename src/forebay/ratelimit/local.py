"""Limits of this process alone, for as long as the server is away: GCRA by a share of the rate, on the monotonic clock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic

from ..forks import renew_after_fork
from .algorithms import Judged, charge_gcra, judge_gcra
from .rate import Rate

__all__ = ["LocalLimits"]


class LocalLimits:
    """At most *most* keys; the oldest is forgotten first. All changes happen under a lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with nothing used, in a forked child."""
        self._lock = threading.Lock()
        self._free_at: dict[str, dict[int, int]] = {}  # by key, then by period

    def decide(self, key: str, rates: Sequence[Rate], cost: int, *, charge: bool) -> list[tuple[Rate, Judged]]:
        """Judge *cost*, and *charge* it if all *rates* let it through. A cost above the burst counts as the whole burst."""
        now = int(monotonic() * 1_000_000)
        with self._lock:
            known = self._free_at.get(key, {})
            states = [(rate, known.get(rate.period_us, 0), min(cost, rate.burst)) for rate in rates]
            found = [(rate, judge_gcra(free_at, rate, own, now)) for rate, free_at, own in states]
            if not charge or not all(judged[0] for _, judged in found):
                return found
            if key not in self._free_at and len(self._free_at) >= self._most:
                del self._free_at[next(iter(self._free_at))]
            self._free_at[key] = {rate.period_us: charge_gcra(free_at, rate, own, now) for rate, free_at, own in states}
        return [
            (rate, (True, judged[1] - own, 0, judged[3] - (-own * rate.period_us // rate.limit)))
            for (rate, judged), (_, _, own) in zip(found, states, strict=True)
        ]

    def drop(self, key: str) -> None:
        """Forget what *key* has used."""
        with self._lock:
            self._free_at.pop(key, None)

    def __repr__(self) -> str:
        return f"<LocalLimits, {len(self._free_at)} of {self._most}>"
