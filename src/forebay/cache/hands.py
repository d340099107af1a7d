"""Who does the loads of a warming: a bounded number of tasks, or of threads. Whatever was started has ended when `close` returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, Final, Protocol

from ..colours import complete

__all__ = ["Hands", "Job", "Tasks", "Threads"]

Work = Callable[[], Coroutine[Any, Any, Any]]


class Job(Protocol):
    """Work that was started."""

    def result(self) -> Any:
        """Return what it returned, or raise what it raised, once it is done."""


_ASK_AGAIN: Final = 1.0  # seconds


class Hands(Protocol):
    """One colour's way to do several things at once."""

    @property
    def awaits(self) -> bool:
        """Whether awaiting may suspend: then sources may be asynchronous too."""

    def check(self) -> None:
        """Raise if whoever waits for the work was told to end, and a source or a loader swallowed that."""

    def start(self, work: Work) -> Job:
        """Do *work* as soon as a hand is free."""

    def wait(self, jobs: Iterable[Job], timeout: float) -> Awaitable[tuple[set[Any], set[Any]]]:
        """Return those that are done and those that are not, once all are done, one failed, or after *timeout* seconds."""

    def pause(self, seconds: float) -> Awaitable[bool]:
        """Wait; return whether to go on (False: it is being closed)."""

    def close(self) -> Awaitable[None]:
        """Start nothing more, cancel what can be cancelled, and wait for the end of the rest."""


class Tasks:
    """Tasks of the running loop, *count* of which work at a time.

    A loader, or a client of one's own, may swallow a cancellation (redis-py does, at times). So it is looked at whether the
    owner was asked to end, and tasks are asked again until they do.
    """

    awaits: Final[bool] = True

    def __init__(self, count: int) -> None:
        self._room = asyncio.Semaphore(count)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._owner = asyncio.current_task()
        self._asked = self._owner.cancelling() if self._owner is not None else 0
        self._closed = False

    def start(self, work: Work) -> Job:
        task = asyncio.get_running_loop().create_task(self._do(work), name="forebay-warm")
        self._tasks.add(task)
        return task

    def check(self) -> None:
        if self._owner is not None and self._owner.cancelling() > self._asked:
            raise asyncio.CancelledError

    async def wait(self, jobs: Iterable[Any], timeout: float) -> tuple[set[Any], set[Any]]:
        self.check()
        done, pending = await asyncio.wait(jobs, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        self._tasks -= done
        _hear(done)
        return done, pending

    async def pause(self, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return not self._closed

    async def close(self) -> None:
        self._closed = True
        tasks, self._tasks = self._tasks, set()
        while tasks:
            for task in tasks:
                task.cancel()
            done, tasks = await asyncio.wait(tasks, timeout=_ASK_AGAIN)
            _hear(done)

    async def _do(self, work: Work) -> Any:
        async with self._room:
            return await work()


def _hear(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Take the errors of *tasks*: of several one is raised, and asyncio shall not say that nobody asked for the others."""
    for task in tasks:
        if not task.cancelled():
            task.exception()


class Threads:
    """A pool of at most *count* threads of its own. A load that a thread is in when it is closed is waited for: nothing can end it."""

    awaits: Final[bool] = False

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="forebay-warm")
        self._closed = threading.Event()

    def check(self) -> None:
        """Threads are not cancelled."""

    def start(self, work: Work) -> Job:
        return self._pool.submit(copy_context().run, self._do, work)

    async def wait(self, jobs: Iterable[Any], timeout: float) -> tuple[set[Any], set[Any]]:
        done, pending = wait(jobs, timeout, FIRST_EXCEPTION)
        return set(done), set(pending)

    async def pause(self, seconds: float) -> bool:
        return not self._closed.wait(seconds)

    async def close(self) -> None:
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _do(self, work: Work) -> Any:
        return complete(work())
