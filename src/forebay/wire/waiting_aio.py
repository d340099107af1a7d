"""asyncio's ways to wait. Background work belongs to a loop, and is cancelled when the bay is closed there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ..errors import ConnectFailed
from .waiting import STILL_ASKING, Guard

__all__ = ["AioWaiting"]

T = TypeVar("T")
_Loop = asyncio.AbstractEventLoop


class _LoopGuard:
    def __init__(self, lock: asyncio.Lock, patience: float) -> None:
        self._lock = lock
        self._patience = patience

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._lock.acquire()
        except TimeoutError as error:
            raise ConnectFailed(STILL_ASKING) from error

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()


class AioWaiting:
    """The asyncio colour of `Waiting`."""

    def __init__(self) -> None:
        self.stopped = False
        self._guards: WeakKeyDictionary[_Loop, asyncio.Lock] = WeakKeyDictionary()
        self._tasks: dict[tuple[_Loop, str], asyncio.Task[None]] = {}

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def guard(self, patience: float) -> Guard:
        loop = asyncio.get_running_loop()
        guard = self._guards.get(loop)
        if guard is None:
            guard = self._guards[loop] = asyncio.Lock()
        return _LoopGuard(guard, patience)

    async def run(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    async def gather(self, works: Sequence[Awaitable[T]]) -> list[T | BaseException]:
        return await asyncio.gather(*works, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        loop = asyncio.get_running_loop()
        if self.stopped or (loop, name) in self._tasks:
            work.close()
            return
        task = self._tasks[loop, name] = loop.create_task(work, name=name)
        task.add_done_callback(lambda _: self._tasks.pop((loop, name), None))

    async def stop(self) -> None:
        """Cancel the background work of this loop and wait for its end."""
        self.stopped = True
        loop = asyncio.get_running_loop()
        mine = [task for (owner, _), task in self._tasks.items() if owner is loop and task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
