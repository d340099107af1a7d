"""Calls that go on beside the test, in either colour, and scripts for a peer that counts what arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from forebay.port.port import complete
from tests.peer import Close, Peer

__all__ = ["answers", "arrived", "finished", "start", "until"]


def start(bay: Any, work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """Begin *work*, a coroutine over *bay*, in a task, or on a thread of its own if the bay is one for threads."""
    if not hasattr(bay, "wrapped"):
        return asyncio.ensure_future(work)
    pool = ThreadPoolExecutor(1)
    future = asyncio.wrap_future(pool.submit(complete, work))
    pool.shutdown(wait=False)
    return future


async def finished(*calls: asyncio.Future[Any]) -> list[Any]:
    """Return the results and the errors of *calls*."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another task, thread or process brings about; the test's own time limit is the only one."""
    while not condition():
        await asyncio.sleep(0.001)


def answers(*replies: bytes | Close) -> Callable[[list[bytes]], bytes]:
    """A script that gives each command the next of *replies*, and the last one for ever."""
    left = list(replies)

    def script(command: list[bytes]) -> bytes:
        if command[0].upper() == b"PING":
            return b"+PONG\r\n"
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Close):
            raise reply
        return reply

    return script


def arrived(other: Peer, *names: bytes) -> int:
    """How many commands of these names arrived at *other*."""
    return sum(command[0] in names for command in other.commands)
