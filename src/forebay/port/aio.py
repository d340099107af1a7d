"""The port that awaits: commands on the route, loads as tasks of their own, promises as futures."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from ..events import Reporter
from ..wire.route import Route
from ..wire.waiting_aio import AioWaiting
from .port_base import PortBase

__all__ = ["AioPort"]

T = TypeVar("T")


class AioPromise(Generic[T]):
    """Every waiter has a future of its own, so that cancelling one leaves the others alone."""

    __slots__ = ("_error", "_kept", "_value", "_waiters")

    def __init__(self) -> None:
        self._kept = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def keep(self, value: T) -> None:
        self._value = value
        self._settle()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._settle()

    async def wait(self) -> T:
        if not self._kept:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _settle(self) -> None:
        self._kept = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class AioPort(PortBase[AioWaiting]):
    """The asyncio colour of `Port`."""

    def __init__(self, route: Route, waiting: AioWaiting, reporter: Reporter) -> None:
        super().__init__(route, waiting, reporter)
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, loader: Callable[[], Any]) -> Any:
        """Call *loader*, and await what it returns if that can be awaited."""
        value = loader()
        return await value if inspect.isawaitable(value) else value

    def promise(self) -> AioPromise[Any]:
        """Return a promise for the tasks of one loop."""
        return AioPromise()

    def launch(self, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run *work* as a task that is kept until it ends, and cancelled when the port closes."""
        task = asyncio.get_running_loop().create_task(work, name="forebay-load")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return lambda: _cancel(task)

    async def close(self) -> None:
        """Cancel the loads of this loop and wait for their end, then close the wire."""
        await asyncio.sleep(0)  # a task that never took its first step could not tell its waiters that it was cancelled
        loop = asyncio.get_running_loop()
        mine: list[Awaitable[None]] = []
        for task in list(self._tasks):
            if task.get_loop() is loop:
                task.cancel()
                mine.append(task)
        await asyncio.gather(*mine, return_exceptions=True)
        await self.route.close()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
