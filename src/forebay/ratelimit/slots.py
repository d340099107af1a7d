"""So many at once: each holder has a slot under a lease, which is renewed until it gives the slot back, and ends by itself if it is gone.

One token for each taking, whatever is repeated: so an attempt whose outcome is unknown leaves no ghost behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from secrets import token_hex
from time import monotonic
from typing import Any, Final, Literal

from ..errors import Closed, ForebayError, RateLimited, UsageError
from ..events import LimitShadowed, LimitUndecided, Reporter, SlotLost
from ..port.port import Port
from ..wire.hurry import DECISION
from ..wire.resp import Arg
from .names import LimitNames
from .scripts import slots

__all__ = ["Slot", "Slots"]

_SECOND: Final = 1_000_000
_LEAST_WAIT: Final = 0.01
_LOOK_AGAIN: Final = 0.1  # seconds
_GIVE_EVERY: Final = 0.5


class Slot:
    """A slot that is held."""

    __slots__ = ("_end", "key", "lost", "names", "over", "pid", "remaining", "renewed_at", "token")

    def __init__(self, key: str, names: tuple[str, str], token: str, remaining: int) -> None:
        self.key = key
        self.names = names
        self.token = token
        self.remaining = remaining  #: how many more there were when it was taken
        self.lost = False  #: whether its lease ended while it was held, so that others may have the slot
        self.over = False  #: whether it was given back
        self.pid = os.getpid()
        self.renewed_at = monotonic()
        self._end: Callable[[], None] | None = None

    def ends(self, end: Callable[[], None]) -> None:
        """Call *end* when the slot is given back."""
        self._end = end

    def end(self) -> None:
        """Renew no more."""
        self.over = True
        if self._end is not None:
            self._end()

    def __repr__(self) -> str:
        return f"<Slot{', lost' if self.lost else ''}, {self.remaining} more were free>"


class Slots:
    """The slots of one limiter, *most* for each key."""

    def __init__(self, port: Port, policy: str, names: LimitNames, reporter: Reporter, most: int, lease_us: int, *, shadow: bool) -> None:
        self._port = port
        self._policy = policy
        self._names = names
        self._reporter = reporter
        self._most = most
        self._lease_us = lease_us
        self._shadow = shadow

    async def take(self, key: str, timeout: float | None, *, is_open: bool) -> Slot:
        """Return a slot; wait for one for at most *timeout* seconds (None: as long as it takes).

        With the server away *is_open* says whether one is let in without a slot.

        Raises:
            RateLimited: none came free in time.
            UsageError: this limiter has no slots.
        """
        if not self._most:
            raise UsageError(f"limiter {self._policy!r} has no slots: give it some, as in limiter({self._policy!r}, concurrency=3)")
        limit = inf if timeout is None else monotonic() + timeout
        slot = Slot(key, self._names.slots_of(key), token_hex(16), 0)
        try:
            while True:
                holds, slot.remaining, next_end, turn = await self._run("take", slot)
                if holds:
                    slot.renewed_at = monotonic()
                    slot.ends(self._port.repeat(self._lease_us / 3 / _SECOND, lambda: self._renew(slot)))
                    return slot
                left = limit - monotonic()
                if self._shadow:
                    self._reporter.report(LimitShadowed(self._full(next_end), self._policy, key))
                    return self.unlimited(key)
                if left <= 0:
                    raise self._full(next_end)
                await self._wait(slot, turn, min(left, max(next_end / _SECOND, _LEAST_WAIT)))
        except (UsageError, RateLimited):
            raise
        except ForebayError as error:
            self._give_later(slot)  # what was asked for may have been given
            return self._undecided(slot, error, is_open=is_open)
        except BaseException:  # the caller leaves, and may have been given a slot that it does not know of
            self._port.background(self._give(slot))
            raise

    def unlimited(self, key: str) -> Slot:
        """Return what stands for a slot where none is needed."""
        return Slot(key, self._names.slots_of(key), "", self._most)

    async def give(self, slot: Slot) -> None:
        """Give *slot* back; with the server away as soon as it is there again, or else its lease ends by itself.

        A forked child gives back nothing of its parent's.
        """
        slot.end()
        if slot.pid == os.getpid() and slot.token:
            await self._give(slot)

    async def look(self, key: str) -> tuple[int, int]:
        """Return how many slots *key* has, and how many of them are free. Raises `Unavailable`, `ServerError`."""
        _, remaining, _, _ = await self._run("look", Slot(key, self._names.slots_of(key), "", 0))
        return self._most, remaining

    async def _run(self, mode: Literal["take", "renew", "give", "look"], slot: Slot) -> Any:
        words: list[Arg] = [mode, slot.token, self._most, self._lease_us]
        return await slots().run(self._port, slot.names, words, idempotent=True, hurry=DECISION)

    async def _wait(self, slot: Slot, turn: bytes | None, seconds: float) -> None:
        """Wait until a slot is given back, or a lease ends."""
        try:
            await self._port.await_change(slot.names[1], lambda data: data == turn, seconds)
        except UsageError:
            raise
        except ForebayError:  # who cannot be told looks again: whether a slot can be had is for the server to say
            await self._port.waiting.sleep(min(seconds, _LOOK_AGAIN))

    async def _renew(self, slot: Slot) -> None:
        try:
            (holds, *_) = await self._run("renew", slot)
            if not holds and not slot.over:  # its lease ended: it is taken up again, if there is room
                (holds, *_) = await self._run("take", slot)
        except ForebayError as error:
            if monotonic() - slot.renewed_at < self._lease_us / _SECOND or slot.lost:
                return  # the next turn may be in time
            slot.lost = True
            self._reporter.report(SlotLost(error, self._policy, slot.key))
            return
        if slot.over:
            await self._give(slot)  # it was given back meanwhile, and has been taken again by being renewed
        elif holds:
            slot.renewed_at = monotonic()
            slot.lost = False
        elif not slot.lost:
            slot.lost = True
            self._reporter.report(SlotLost(TimeoutError("its lease ended, and all slots are taken"), self._policy, slot.key))

    async def _give(self, slot: Slot) -> None:
        try:
            await self._run("give", slot)
        except Closed:
            return  # the bay went first, and its lease ends by itself
        except UsageError:
            raise
        except ForebayError:
            self._give_later(slot)

    def _give_later(self, slot: Slot) -> None:
        """Try again and again until the slot was given back, or its lease must have ended."""
        lease = self._lease_us / _SECOND
        until = monotonic() + lease

        async def attempt() -> None:
            try:
                await self._run("give", slot)
            except ForebayError:
                if monotonic() < until:
                    return  # at the next turn
            end()

        end = self._port.repeat(min(_GIVE_EVERY, lease / 3), attempt)

    def _undecided(self, slot: Slot, error: ForebayError, *, is_open: bool) -> Slot:
        self._reporter.report(LimitUndecided(error, self._policy, slot.key, "open" if is_open else "closed"))
        if not is_open:
            raise RateLimited(f"limit {self._policy!r} cannot be checked, and is closed until it can be") from error
        return self.unlimited(slot.key)

    def _full(self, next_end: int) -> RateLimited:
        return RateLimited(
            f"limit {self._policy!r}: all {self._most} slots are taken, and none came free in time; "
            f"unless it is given back before, the next one is free in {next_end / _SECOND:.3g} s",
            retry_after=next_end / _SECOND,
        )

    def __repr__(self) -> str:
        return f"<Slots of {self._policy!r}, {self._most} for each key>"
