"""The port that never suspends: commands on the route, loads on the caller's own thread, promises as events."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from ..events import Reporter
from ..wire.route import Route
from ..wire.subscription import SubscriptionCore
from ..wire.waiting import BlockingWaiting
from .port import complete

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


class BlockingPort:
    """The threads' colour of `Port`."""

    def __init__(self, route: Route, waiting: BlockingWaiting, reporter: Reporter) -> None:
        self.route = route
        self.waiting = waiting
        self._reporter = reporter
        self.get = route.get
        self.send = route.send
        self.again = route.again
        self.execute = route.execute
        self.execute_many = route.execute_many
        self.transaction = route.transaction
        self.connect = route.connect
        self.close = route.close
        self.stats = route.stats

    def subscription(self, channels: Sequence[str], patterns: Sequence[str]) -> SubscriptionCore:
        """Return a subscription that is not open yet."""
        return SubscriptionCore(self.route, self.waiting, self._reporter, channels, patterns)

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

    def __repr__(self) -> str:
        return f"<BlockingPort {self.route!r}>"


def _nothing_to_cancel() -> None:
    """The work ran to its end before `launch` returned."""
