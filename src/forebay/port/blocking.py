"""The port that never suspends: commands on the route, loads on the caller's own thread, promises as events."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from ..events import Reporter
from ..wire.route import Route
from ..wire.waiting import BlockingWaiting
from .port import complete
from .port_base import PortBase

__all__ = ["BlockingPort"]

T = TypeVar("T")


class BlockingPromise(Generic[T]):
    """Threads wait for an event; the value and the error are written before it is set."""

    __slots__ = ("_error", "_kept", "_value")

    def __init__(self) -> None:
        self._kept = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def keep(self, value: T) -> None:
        self._value = value
        self._kept.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._kept.set()

    async def wait(self) -> T:
        self._kept.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class BlockingPort(PortBase[BlockingWaiting]):
    """The threads' colour of `Port`."""

    def __init__(self, route: Route, waiting: BlockingWaiting, reporter: Reporter) -> None:
        super().__init__(route, waiting, reporter)
        self.close = route.close

    async def call(self, loader: Callable[[], Any]) -> Any:
        """Call *loader* and return its value.

        Raises:
            TypeError: it returned an awaitable; that is for the async colour.
        """
        value = loader()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError(f"{loader!r} returned an awaitable: a sync cache needs a plain function, or use AsyncForebay")
        return value

    def promise(self) -> BlockingPromise[Any]:
        return BlockingPromise()

    def launch(self, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        complete(work)
        return _nothing_to_cancel


def _nothing_to_cancel() -> None:
    """The work ran to its end before `launch` returned."""
