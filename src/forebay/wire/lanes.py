"""asyncio: connections of their own, for what would make others wait: blocking commands, large values, long timeouts.

A lane serves one call at a time. A call that is cancelled or overdue takes its connection with it, so that the server knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from ..errors import ConnectFailed, DeadlineExceeded, ForebayError, Overloaded
from ..settings import Settings
from .link import Link
from .resp import Reply
from .stats import Meter

__all__ = ["Lanes"]


class Lanes:
    """At most ``pool_size`` connections on one event loop, of which up to ``min_idle`` (at least one) are kept when idle."""

    def __init__(self, open_link: Callable[[], Awaitable[Link]], settings: Settings, meter: Meter) -> None:
        self._open_link = open_link
        self._settings = settings
        self._meter = meter
        self._free = asyncio.Semaphore(settings.pool_size)
        self._idle: list[Link] = []
        self._busy: set[Link] = set()
        self._closed = False

    async def call(self, packed: Sequence[bytes], patience: float, timeout: float | None) -> list[Reply]:
        """Send *packed* in one write and return the replies, refusals as values.

        *patience* bounds the wait for a lane, *timeout* everything (None: for ever).

        Raises:
            Overloaded: no lane came free in time; nothing was sent.
            ConnectFailed: none could be opened.
            ConnectionLost, DeadlineExceeded: the commands may have run.
        """
        began = time.monotonic()
        link = await self._take(patience)
        try:
            async with asyncio.timeout(None if timeout is None else timeout - (time.monotonic() - began)):
                return await link.send_batch(packed)
        except TimeoutError as error:
            if isinstance(error, ForebayError):
                raise
            overdue = DeadlineExceeded(f"{link.address} did not answer within {timeout:g} s")
            link.drop(overdue)
            raise overdue from error
        except BaseException as error:
            link.drop(error)
            raise
        finally:
            self._give_back(link)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._idle) + len(self._busy)

    @property
    def busy(self) -> int:
        """How many of them are at work."""
        return len(self._busy)

    async def close(self, patience: float) -> None:
        """Let busy lanes finish for at most *patience* seconds, then close all."""
        self._closed = True
        async with asyncio.TaskGroup() as group:
            for link in [*self._idle, *self._busy]:
                group.create_task(link.close(patience))

    async def _take(self, patience: float) -> Link:
        free = False
        try:
            async with asyncio.timeout(patience):
                await self._free.acquire()
                free = True
                link = self._idle_link()
                if link is None:
                    self._meter.misses += 1
                    link = await self._open_link()
                else:
                    self._meter.hits += 1
        except BaseException as error:
            if free:
                self._free.release()
            if isinstance(error, ForebayError) or not isinstance(error, TimeoutError):
                raise
            if free:
                raise ConnectFailed(f"no connection to {self._settings.where} could be opened within {patience:g} s") from error
            self._meter.timeouts += 1
            raise Overloaded(
                f"all {self._settings.pool_size} extra connections to {self._settings.where} were busy for {patience:g} s, and this "
                "command was not sent; raise REDIS_POOL_SIZE or make fewer blocking calls at once"
            ) from error
        self._busy.add(link)
        return link

    def _idle_link(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if link.broken is None:
                return link
        return None

    def _give_back(self, link: Link) -> None:
        self._busy.discard(link)
        self._free.release()
        if link.broken is None:
            self._idle.append(link)
            if self._closed or len(self._idle) > max(1, self._settings.min_idle):
                self._idle.pop(0).drop(ConnectionResetError("an idle connection too many"))

    def lost(self, link: Link) -> bool:
        """Take note that *link* broke; return whether it was at work."""
        if link in self._idle:
            self._idle.remove(link)
        return link in self._busy

    def __repr__(self) -> str:
        return f"<Lanes {len(self._busy)} busy, {len(self._idle)} idle>"
