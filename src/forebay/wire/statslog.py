"""The wire's counts on one line of the log, every so often, for those who have no metrics."""

from __future__ import annotations

from collections.abc import Callable

from ..events import logger
from .stats import WireStats
from .waiting import Waiting

__all__ = ["log_stats"]


async def log_stats(waiting: Waiting, every: float, stats: Callable[[], WireStats], where: str) -> None:
    """Log ``stats().line()`` on the logger ``forebay`` at level INFO every so many seconds, until the bay is closed."""
    while not waiting.stopped:
        await waiting.sleep(every)
        if not waiting.stopped:
            logger.info("%s %s", where, stats().line())
