"""Refusals that this process remembers, so that who is refused again costs no round trip; never one that the server would not give.

What is remembered is the state that refused, and not the refusal: it is judged anew for each cost. It was read with tracking, so that
whatever changes it (a hit from elsewhere, a reset, rates of the key's own) is told and drops it. The server's clock is taken to be
as far ahead as it can be: the reading is dated from before it was asked.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final

from ..errors import ForebayError, ServerError
from ..forks import renew_after_fork
from ..port.port import Port
from ..wire.resp import Arg, Reply
from .algorithms import LAW, Judged
from .rate import Rate, stored_rates
from .scripts import Law

__all__ = ["Refusals", "Remembered", "Track"]

Track = Callable[[bytes, Sequence[tuple[Arg, ...]]], Awaitable[tuple[list[Reply], object | None]]]
"""Reads a key and has the server tell when it changes; see `Port.track`."""

_MOST_LOGGED: Final = 128  # a longer log is not remembered


class Remembered:
    """The state of one key, as the server had it."""

    __slots__ = ("asked", "free_at", "judge", "least", "offset", "parts", "rate", "refused_until", "source", "until")

    def __init__(
        self, law: Law, asked: tuple[Rate, ...], rates: tuple[Rate, ...], data: object, at: int, sent: float, until: float, source: object
    ) -> None:
        rules = LAW[law]
        self.asked = asked  # the rates that the limiter had for the key
        self.judge = rules.judge
        longest = max(rate.period_us for rate in rates)
        self.parts = [(rate, rules.read(data, rate, at, longest)) for rate in rates]
        self.least = min(rate.burst for rate in rates)
        self.offset = at - int(sent * 1_000_000)
        self.until = until
        self.source = source
        # For a single rate and the cost of 1, which is what nearly all ask: none is left until it passes.
        self.rate = rates[0]
        self.refused_until = self.free_at = 0.0
        if len(rates) == 1:
            _, _, retry, reset = self.judge(self.parts[0][1], rates[0], 1, at)
            self.refused_until, self.free_at = min(sent + retry / 1_000_000, until), sent + reset / 1_000_000

    def refused(self, cost: int, now: float) -> list[tuple[Rate, Judged]] | None:
        """Judge *cost* at *now*, on the clock of ``time.monotonic()``; None if it might pass, or if what is known is too old."""
        if now >= self.until or cost > self.least:
            return None  # what is above the burst never passes, and the server says so
        at, judge = int(now * 1_000_000) + self.offset, self.judge
        found = [(rate, judge(state, rate, cost, at)) for rate, state in self.parts]
        return None if all(judged[0] for _, judged in found) else found


class Refusals:
    """What one limiter remembers, by key, at most *most* at once; ``held`` is changed by this class alone."""

    def __init__(self, port: Port, law: Law, most: int) -> None:
        self._port = port
        self._law = law
        self._most = most
        self.held: dict[str, Remembered] = {}
        self.renew()
        renew_after_fork(self)
        port.tracking.follow(self)

    def renew(self) -> None:
        """Be empty, in a forked child: nobody would tell it of changes."""
        self._lock = threading.Lock()
        self.held.clear()
        self._keys: dict[bytes, str] = {}  # by the names in Redis of state and own rates
        self._names: dict[str, tuple[bytes, bytes]] = {}
        self._reading: dict[str, bool] = {}  # whether nothing changed since it was asked

    def begin(self, key: str, asked: tuple[Rate, ...], names: tuple[str, str]) -> bool:
        """Note that *key* is about to be read, to be remembered; False if it need not be. Each beginning is ended by `learn`."""
        with self._lock:
            held = self.held.get(key)
            if not self._most or key in self._reading or (held is not None and held.asked == asked and monotonic() < held.until):
                return False  # what is held still stands for a hit that was under way when it was learned: nothing has changed it
            self._reading[key] = True
            both = self._names[key] = names[0].encode(), names[1].encode()
            self._keys.update(dict.fromkeys(both, key))
            return True

    async def learn(self, key: str, asked: tuple[Rate, ...], track: Track) -> None:
        """Read the state of *key*, which was refused just now, and remember it. What cannot be read is asked again by the next hit."""
        remembered = None
        try:
            with suppress(ForebayError):
                remembered = await self._read(*self._names[key], asked, track)
        finally:
            with self._lock:
                unchanged = self._reading.pop(key)
                if remembered is not None and unchanged:
                    self._keep(key, remembered)
                elif key not in self.held:
                    self._forget(key)

    def abandon(self, key: str) -> None:
        """Take back `begin`: nobody will `learn`."""
        with self._lock:
            self._reading.pop(key, None)
            if key not in self.held:
                self._forget(key)

    async def _read(self, state: bytes, own: bytes, asked: tuple[Rate, ...], track: Track) -> Remembered | None:
        logged = self._law == "sliding_log"
        first: tuple[Arg, ...] = ("zrange", state, 0, _MOST_LOGGED, "WITHSCORES") if logged else ("mget", state, own)
        sent = monotonic()
        replies, source = await track(state, [first, ("get", own), ("pttl", own), ("time",)])
        if source is None or any(isinstance(reply, ServerError) for reply in replies):
            return None
        data: Any = replies[0] if logged else replies[0][0]
        if not data or (logged and len(data) > _MOST_LOGGED):
            return None
        rates, left = stored_rates(replies[1]) or asked, replies[2]
        until = sent + left / 1000 if left >= 0 else inf  # rates of the key's own end by themselves
        seconds, microseconds = replies[3]
        at = int(seconds) * 1_000_000 + int(microseconds)
        try:
            return Remembered(self._law, asked, rates, data, at, sent, until, source)
        except (ValueError, OverflowError):  # it holds something else: the server is asked, and says so
            return None

    def _keep(self, key: str, remembered: Remembered) -> None:
        self.held.pop(key, None)
        while len(self.held) >= self._most:
            self._void(next(iter(self.held)))
        self.held[key] = remembered

    def _void(self, key: str) -> None:
        self.held.pop(key, None)
        if key in self._reading:
            self._reading[key] = False
        else:
            self._forget(key)

    def _forget(self, key: str) -> None:
        for name in self._names.pop(key, ()):
            self._keys.pop(name, None)

    # port.tracking.Follower

    def drop(self, name: bytes) -> None:
        """*name* has changed: what was known of its key is void."""
        if name in self._keys:
            with self._lock:
                key = self._keys.get(name)
                if key is not None:
                    self._void(key)

    def drop_under(self, head: bytes) -> None:
        """All names that begin with *head* may have changed."""
        with self._lock:
            for key in {key for name, key in self._keys.items() if name.startswith(head)}:
                self._void(key)

    def drop_all(self, source: object | None) -> None:
        """Whatever *source* tracked may have changed."""
        with self._lock:
            for key in list(self._names):
                remembered = self.held.get(key)
                if source is None or remembered is None or remembered.source is source:
                    self._void(key)

    def __repr__(self) -> str:
        return f"<Refusals: {len(self.held)} of {self._most}>"
