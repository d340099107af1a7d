"""asyncio: what looks after a connection: a few timers, however many commands are in flight, and none that is set for each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Collection
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import DeadlineExceeded, ProtocolViolation
from ..settings import Settings
from .deadlines import Deadlines
from .hurry import HURRIES, hurry_of, patience_of, variable_of
from .resilience import Breaker
from .session import Slot

if TYPE_CHECKING:
    from .link import Link

__all__ = ["Watch", "farewell"]


class Watch:
    """Sees to it that on one link nobody waits for longer than allowed, and that a silent peer is noticed."""

    def __init__(self, link: Link, deadlines: Deadlines, slots: Collection[Slot], settings: Settings, breaker: Breaker) -> None:
        self.looking = deadlines.timeout == math.inf  # its user keeps the time
        self._link = link
        self._loop = link.loop
        self._deadlines = deadlines
        self._slots = slots
        self._settings = settings
        self._breaker = breaker
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._patience = {hurry: patience_of(hurry, settings) for hurry in HURRIES}
        self._release = {hurry: partial(self._hurry, hurry) for hurry in HURRIES}

    def begin(self) -> None:
        """Ask for signs of life from now on, whenever the connection is idle."""
        self._timers["ping"] = self._loop.call_later(self._settings.ping_every, self._ping)

    def look_soon(self) -> None:
        """Something is awaited: look after it when it falls due."""
        self.looking = True
        self._timers["look"] = self._loop.call_later(self._deadlines.timeout, self._look)
        for hurry in HURRIES:
            self._timers[f"hurry {hurry}"] = self._loop.call_later(self._patience[hurry], self._release[hurry])

    def write_blocked(self) -> None:
        """The server takes no bytes: give it a while."""
        self._timers["write"] = self._loop.call_later(self._settings.write_timeout, self._write_overdue)

    def write_resumed(self) -> None:
        """It takes bytes again."""
        if "write" in self._timers:
            self._timers.pop("write").cancel()

    def end(self) -> None:
        """Look no more."""
        for timer in self._timers.values():
            timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._deadlines.silent(now):
            self._link.drop(ProtocolViolation(f"nothing was heard for {self._deadlines.silence:g} s while replies were due"))
            return
        late = list(islice(self._slots, self._deadlines.overdue(now)))
        error = DeadlineExceeded(f"{self._link.address} did not answer within {self._deadlines.timeout:g} s")
        if late and self._breaker.failed(error, len(late)):
            self._link.renew_ready()
        for slot in late:
            if not slot.done():
                slot.set_exception(DeadlineExceeded(*error.args))
        look = self._deadlines.next_look()
        if look is None:
            self.looking = False
            for hurry in HURRIES:
                self._timers[f"hurry {hurry}"].cancel()
        else:
            self._timers["look"] = self._loop.call_at(look, self._look)

    def _hurry(self, hurry: int) -> None:
        """Release those who are in such a *hurry*. It is one failure of the node, however many wait."""
        patience = self._patience[hurry]
        now = self._loop.time()
        before, commands = self._deadlines.impatient(now, patience, hurry)
        reason = f"{self._link.address} did not answer within {patience:g} s ({variable_of(hurry)})"
        late = False
        for command, slot in zip(commands, islice(self._slots, before, before + len(commands)), strict=True):
            if hurry_of(command) == hurry and not slot.done():
                late = True
                slot.set_exception(DeadlineExceeded(reason))
        if late and self._breaker.failed(DeadlineExceeded(reason)):
            self._link.renew_ready()
        due = self._deadlines.next_impatient(now, patience, hurry)
        self._timers[f"hurry {hurry}"] = self._loop.call_at(due, self._release[hurry])

    def _ping(self) -> None:
        """Ask an idle connection for a sign of life. One that gives none is silent, and given up as such."""
        if not self._slots and self._loop.time() - self._deadlines.heard_at >= self._settings.ping_every:
            self._link.ask_for_life()
        self.begin()

    def _write_overdue(self) -> None:
        self._link.drop(TimeoutError(f"{self._link.address} took no bytes for {self._settings.write_timeout:g} s"))


async def farewell(link: Link, patience: float) -> AsyncGenerator[None, None]:
    """Close *link* when its loop shuts down its generators, which ``asyncio.run`` does before it closes the loop."""
    try:
        yield
    finally:
        if link.broken is None:
            link.leaving = True
            await link.close(patience)
