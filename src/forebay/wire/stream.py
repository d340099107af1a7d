"""asyncio: a connection whose pushes are listened to, one at a time. What is not fetched waits, up to a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..errors import ConnectionLost, ProtocolViolation, ServerError
from .resp import Push, Reply

if TYPE_CHECKING:
    from .link import Link

__all__ = ["AioStream"]

_MOST_WAITING: Final = 100_000


class AioStream:
    """The asyncio colour of `Stream`."""

    def __init__(self) -> None:
        self.link: Link
        self._pushes: deque[Push | ServerError] = deque()
        self._arrived = asyncio.Event()
        self._cause: BaseException | None = None

    def take(self, push: Push | ServerError) -> None:
        """Keep *push* for `next`."""
        self._pushes.append(push)
        self._arrived.set()
        if len(self._pushes) > _MOST_WAITING:
            self.link.drop(ProtocolViolation(f"{_MOST_WAITING} pushes wait and nobody fetches them"))

    def ended(self, _link: Link, cause: BaseException) -> None:
        """Note that the connection is gone."""
        self._cause = cause
        self._arrived.set()

    async def send(self, packed: bytes) -> None:
        """Send a command whose answer is pushes."""
        if self._cause is not None:
            raise ConnectionLost(f"connection to {self.link.address} lost: {self._cause}") from self._cause
        self.link.push(packed)

    async def ask(self, packed: Sequence[bytes]) -> list[Reply]:
        """Send commands that are answered, and return their replies, refusals as values."""
        return await self.link.send_batch(packed)

    async def next(self, timeout: float | None) -> Push | None:
        """Return the next push, or None if none came within *timeout* seconds.

        Raises:
            ConnectionLost: there will be no more.
            ServerError: the server refused what was sent.
        """
        if not self._pushes:
            self._arrived.clear()
            if self._cause is None:
                try:
                    async with asyncio.timeout(timeout):
                        await self._arrived.wait()
                except TimeoutError:
                    return None
        if self._pushes:
            push = self._pushes.popleft()
            if isinstance(push, ServerError):
                raise push
            return push
        raise ConnectionLost(f"connection to {self.link.address} lost: {self._cause}") from self._cause

    async def close(self) -> None:
        """Close the connection."""
        await self.link.close(0.5)
