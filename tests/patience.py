"""What comes back within a moment, and no later: a breaker lets the first call through at most half a second after the fault's end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from forebay import Unavailable

MOMENT = 1.0


async def served_again(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return the result of *call* as soon as it is served; fail if that takes longer than a second."""
    limit = time.monotonic() + MOMENT
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > limit:
                raise
            await asyncio.sleep(0.01)
