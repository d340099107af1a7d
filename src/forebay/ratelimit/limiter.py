"""The two colours of a limiter, the same names and parameters in both: one awaits the core, the other completes it."""

from __future__ import annotations

from collections.abc import Callable

from ..colours import complete, documented_like
from ..durations import Duration
from ..keys import Key
from .core import LimiterCore
from .limited import AsyncLimited, AsyncSlot, Limited, SlotBlock
from .rate import Rate, RateLike
from .verdict import Verdict

__all__ = ["AsyncLimiter", "Limiter"]


class AsyncLimiter(LimiterCore):
    """A limiter for asyncio. Get it from `AsyncForebay.limiter`."""

    def limited(self, key: Key | Callable[..., Key], *, timeout: Duration | None = None, cost: int = 1) -> AsyncLimited:
        """Return a limit around a function or a block: ``@limiter.limited("github")``, ``async with limiter.limited("github"):``.

        Args:
            key: or, for functions, a function of the same arguments that returns it.
            timeout: how long to wait for room; None: not at all.

        Raises (when called or entered):
            RateLimited: there was no room in time.
        """
        return AsyncLimited(self, key, timeout, cost)

    def slot(self, key: Key, timeout: Duration | None = None) -> AsyncSlot:
        """Return a slot around a block: ``async with limiter.slot(key):``; of each key only ``concurrency`` are held at once, anywhere.

        The slot is under a lease of ``slot_lease``, renewed until the block ends; ``.lost`` says that this could not be done in time.

        Args:
            timeout: how long to wait for a slot; None: as long as it takes.

        Raises (when entered):
            RateLimited: none came free in time.
            UsageError: the limiter has no ``concurrency``.
        """
        return AsyncSlot(self, key, timeout)


@documented_like(AsyncLimiter)
class Limiter:
    """A limiter for threads. Get it from `Forebay.limiter`; all threads may share it."""

    def __init__(self, core: LimiterCore) -> None:
        self._core = core

    @property
    def name(self) -> str:
        return self._core.name

    def hit(self, key: Key, cost: int = 1) -> Verdict:
        verdict = self._core.policy.recall(key, cost)
        return complete(self._core.hit(key, cost)) if verdict is None else verdict

    def peek(self, key: Key, cost: int = 1) -> Verdict:
        return complete(self._core.peek(key, cost))

    def acquire(self, key: Key, timeout: Duration | None = None, cost: int = 1) -> Verdict:
        return complete(self._core.acquire(key, timeout, cost))

    def reset(self, key: Key) -> bool:
        return complete(self._core.reset(key))

    def set_rates(self, key: Key, rate: RateLike, ttl: Duration) -> None:
        complete(self._core.set_rates(key, rate, ttl))

    def clear_rates(self, key: Key) -> bool:
        return complete(self._core.clear_rates(key))

    def rates(self, key: Key) -> tuple[Rate, ...]:
        return complete(self._core.rates(key))

    def own_rates(self, key: Key) -> tuple[Rate, ...] | None:
        return complete(self._core.own_rates(key))

    def limited(self, key: Key | Callable[..., Key], *, timeout: Duration | None = None, cost: int = 1) -> Limited:
        return Limited(self._core, key, timeout, cost)

    def slot(self, key: Key, timeout: Duration | None = None) -> SlotBlock:
        return SlotBlock(self._core, key, timeout)

    def __repr__(self) -> str:
        return repr(self._core).replace("LimiterCore(", "Limiter(", 1)
