"""So many at once: each holder has a slot under a lease, which is renewed until it gives the slot back, and ends by itself if it is gone.

One token for each taking, whatever is repeated: so an attempt whose outcome is unknown leaves no ghost behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from math import inf
from secrets import token_hex
from time import monotonic
from typing import Any, Final, Literal

from ..errors import ForebayError, OutcomeUnknown, RateLimited, UsageError
from ..events import LimitUndecided, Reporter, SlotLost
from ..port.port import Port
from ..wire.hurry import DECISION
from ..wire.resp import Arg
from .names import LimitNames
from .scripts import slots

__all__ = ["Slot", "Slots"]

_SECOND: Final = 1_000_000
_LEAST_WAIT: Final = 0.01


class Slot:
    """A slot that is held."""

    __slots__ = ("_end", "key", "lost", "names", "pid", "remaining", "renewed_at", "token")

    def __init__(self, key: str, names: tuple[str, str], token: str, remaining: int) -> None:
        self.key = key
        self.names = names
        self.token = token
        self.remaining = remaining  #: how many more there were when it was taken
        self.lost = False  #: whether its lease ended while it was held, so that others may have the slot
        self.pid = os.getpid()
        self.renewed_at = monotonic()
        self._end: Callable[[], None] | None = None

    def ends(self, end: Callable[[], None]) -> None:
        """Call *end* when the slot is given back."""
        self._end = end

    def end(self) -> None:
        """Renew no more."""
        if self._end is not None:
            self._end()

    def __repr__(self) -> str:
        return f"<Slot{', lost' if self.lost else ''}, {self.remaining} more were free>"


class Slots:
    """The slots of one limiter, *most* for each key."""

    def __init__(self, port: Port, policy: str, names: LimitNames, reporter: Reporter, most: int, lease_us: int) -> None:
        self._port = port
        self._policy = policy
        self._names = names
        self._reporter = reporter
        self._most = most
        self._lease_us = lease_us

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
                if left <= 0:
                    raise self._full(next_end)
                await self._wait(slot, turn, min(left, max(next_end / _SECOND, _LEAST_WAIT)))
        except UsageError:
            raise
        except RateLimited:
            raise
        except ForebayError as error:
            if isinstance(error, OutcomeUnknown):
                self._port.background(self._give_quietly(slot))
            return self._undecided(slot, error, is_open=is_open)
        except BaseException:  # the caller leaves, and may have been given a slot that it does not know of
            self._port.background(self._give_quietly(slot))
            raise

    def unlimited(self, key: str) -> Slot:
        """Return what stands for a slot where none is needed."""
        return Slot(key, self._names.slots_of(key), "", self._most)

    async def give(self, slot: Slot) -> None:
        """Give *slot* back. With the server away its lease ends by itself; a forked child gives back nothing of its parent's."""
        slot.end()
        if slot.pid == os.getpid() and slot.token:
            await self._give_quietly(slot)

    async def look(self, key: str) -> tuple[int, int]:
        """Return how many slots *key* has, and how many of them are free. Raises `Unavailable`, `ServerError`."""
        _, remaining, _, _ = await self._run("look", Slot(key, self._names.slots_of(key), "", 0))
        return self._most, remaining

    async def _run(self, mode: Literal["take", "renew", "give", "look"], slot: Slot) -> Any:
        words: list[Arg] = [mode, slot.token, self._most, self._lease_us]
        return await slots().run(self._port, slot.names, words, idempotent=True, hurry=DECISION)

    async def _wait(self, slot: Slot, turn: bytes | None, seconds: float) -> None:
        """Wait until a slot is given back, or a lease ends."""
        await self._port.await_change(slot.names[1], lambda data: data == turn, seconds)

    async def _renew(self, slot: Slot) -> None:
        try:
            (holds, *_) = await self._run("renew", slot)
        except ForebayError as error:
            if monotonic() - slot.renewed_at < self._lease_us / _SECOND or slot.lost:
                return  # the next turn may be in time
            slot.lost = True
            self._reporter.report(SlotLost(error, self._policy, slot.key))
            return
        if holds:
            slot.renewed_at = monotonic()
            slot.lost = False
        elif not slot.lost:
            slot.lost = True
            self._reporter.report(SlotLost(TimeoutError("its lease ended, and all slots are taken"), self._policy, slot.key))

    async def _give_quietly(self, slot: Slot) -> None:
        with suppress(ForebayError):  # the lease ends by itself
            await self._run("give", slot)

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
