"""The port that awaits: commands on the route, loads as tasks of their own, promises as futures."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import count
from typing import Any, Final, Generic, TypeVar

from ..errors import LoaderTimeout
from ..events import Reporter
from ..wire.node import Asked
from ..wire.resilience import pause_before
from ..wire.resp import Arg
from ..wire.route import Route
from ..wire.waiting_aio import AioWaiting
from .port import raise_refusal
from .port_base import PortBase
from .tracking import Tracking

__all__ = ["AioPort"]

T = TypeVar("T")
_MOST_TASKS: Final = 10_000


class AioPromise(Generic[T]):
    """Every waiter has a future of its own, so that cancelling one leaves the others alone, whatever loop they wait on."""

    __slots__ = ("_error", "_kept", "_lock", "_value", "_waiters")

    def __init__(self) -> None:
        self._kept = False
        self._lock = threading.Lock()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def keep(self, value: T) -> None:
        self._value = value
        self._settle()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._settle()

    async def wait(self, timeout: float | None = None) -> T:
        waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            if not self._kept:
                self._waiters.append(waiter)
            else:
                waiter.set_result(None)
        if timeout is None:
            await waiter
        else:
            async with asyncio.timeout(timeout):
                await waiter
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _settle(self) -> None:
        with self._lock:
            self._kept = True
            waiters, self._waiters = self._waiters, []
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for waiter in waiters:
            loop = waiter.get_loop()
            if loop is here:
                _settle(waiter)
            else:
                _wake(loop, waiter)


class AioPort(PortBase[AioWaiting]):
    """The asyncio colour of `Port`."""

    def __init__(self, route: Route, waiting: AioWaiting, reporter: Reporter, tracking: Tracking) -> None:
        super().__init__(route, waiting, reporter, tracking)
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[None]] = set()  # of them
        self._closed = False

    def ahead(self, commands: Sequence[tuple[Arg, ...]]) -> Asked:
        """Do as `execute_many`, in a task."""
        return asyncio.ensure_future(self.execute_many(commands))

    async def call(self, loader: Callable[[], Any], timeout: float | None = None) -> Any:
        """Call *loader*, and await what it returns if that can be awaited, for at most *timeout* seconds."""
        value = loader()
        if not inspect.isawaitable(value):
            return value
        if timeout is None:
            return await value
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await value
        except TimeoutError as error:
            if limit.expired():
                raise LoaderTimeout(f"the loader did not return within its hard_timeout of {timeout:g} s") from error
            raise  # the loader's own

    async def await_change(self, name: str, still: Callable[[bytes | None], bool], timeout: float) -> bytes | None:
        """Return what is stored under *name* once that is not *still* so; woken by the server, or else looking now and then."""
        loop, key = asyncio.get_running_loop(), name.encode()
        limit = loop.time() + timeout
        for attempt in count(1):
            woken = loop.create_future()
            end = self.tracking.watch(key, partial(_wake, loop, woken))
            try:
                replies, source = await self.track(key, [("get", key), ("pttl", key)])
                raise_refusal(replies)
                data: bytes | None = replies[0]
                left = limit - loop.time()
                if left <= 0 or not still(data):
                    return data
                pause = min(left, replies[1] / 1000 + 0.001 if replies[1] >= 0 else left)
                if source is None:
                    pause = min(pause, pause_before(attempt))
                await asyncio.wait([woken], timeout=pause)
            finally:
                end()
                woken.cancel()
        raise AssertionError  # count() never ends

    def promise(self) -> AioPromise[Any]:
        """Return a promise for the tasks of one loop."""
        return AioPromise()

    def launch(self, work: Coroutine[Any, Any, None], *, finishes: bool = False) -> Callable[[], None]:
        """Run *work* as a task that is kept until it ends, and cancelled when the port closes; or, if it *finishes*, waited for."""
        task = asyncio.get_running_loop().create_task(work, name="forebay-load")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if finishes:
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)
        return lambda: _cancel(task)

    def background(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run *work* as a task, unless there are too many."""
        if len(self._tasks) >= _MOST_TASKS or self._closed:
            work.close()
            return False
        self.launch(work)
        return True

    def repeat(self, every: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Run *work* as a task every so many seconds."""
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle

        def run() -> None:
            nonlocal handle
            handle = loop.call_later(every, run)
            self.launch(work())

        handle = loop.call_later(every, run)
        return lambda: handle.cancel()

    async def close(self) -> None:
        """Cancel the loads of this loop and wait for their end, let them give back what they hold, then close the wire."""
        self._closed = True
        await asyncio.sleep(0)  # a task that never took its first step could not tell its waiters that it was cancelled
        await _ended(self._mine() - self._finishing)
        finishing = self._mine()
        if finishing:
            await asyncio.wait(finishing, timeout=self.route.settings.close_timeout)
            await _ended(self._mine())
        await self.route.close()

    def _mine(self) -> set[asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        return {task for task in self._tasks if task.get_loop() is loop}


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_settle, woken)
    except RuntimeError:  # its loop is closed, and nobody waits there
        return


def _settle(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel *tasks* and wait for their end, whatever it is."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
