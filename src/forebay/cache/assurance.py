"""How far an invalidation goes: to the server (always), to the near tiers of other processes (strict), and through an outage (outbox)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import Unavailable
from ..port.port import Port
from .outbox import Outbox
from .roll import Roll
from .tally import Tally

__all__ = ["Assurance"]

R = TypeVar("R")


class Assurance:
    """What one cache promises beyond the server's acknowledgement."""

    def __init__(self, port: Port, namespace: str, roll: Roll | None, outbox: Outbox | None, tally: Tally) -> None:
        self._port = port
        self._namespace = namespace
        self._roll = roll
        self._outbox = outbox
        self._tally = tally

    async def run(self, operation: str, key: object, otherwise: R, work: Callable[[], Awaitable[R]]) -> R:
        """Do *work*, which invalidates and may be repeated, and everything promised beyond it.

        Returns:
            What *work* returned; *otherwise* if it was put into the outbox.

        Raises:
            Unavailable: it failed, and there is no outbox, or no room in it.
        """
        if self._outbox is None:
            return await self._settled(operation, key, work)
        try:
            return await self._settled(operation, key, work)
        except Unavailable as error:
            self._outbox.put(self._namespace, operation, key, lambda: self._settled(operation, key, work), error)
            return otherwise

    async def _settled(self, operation: str, key: object, work: Callable[[], Awaitable[R]]) -> R:
        outcome = await work()
        if self._roll is not None:
            await self._roll.call(self._port)
        self._tally.invalidated(operation, key, int(outcome) if isinstance(outcome, int) else None)
        return outcome

    def __repr__(self) -> str:
        return f"<Assurance: {self._roll!r}, {self._outbox!r}>"
