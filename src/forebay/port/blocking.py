"""The port that never suspends: commands on the route, loads on the caller's own thread, promises as events."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from ..errors import ServerError
from ..events import Reporter
from ..wire.node import Stream
from ..wire.resilience import pause_before
from ..wire.resp import Arg, pack
from ..wire.route import Route
from ..wire.waiting import BlockingWaiting
from .crew import Crew
from .port import complete, raise_refusal
from .port_base import PortBase
from .tracking import Tracking

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

    async def wait(self, timeout: float | None = None) -> T:
        if not self._kept.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class BlockingPort(PortBase[BlockingWaiting]):
    """The threads' colour of `Port`."""

    def __init__(self, route: Route, waiting: BlockingWaiting, reporter: Reporter, tracking: Tracking) -> None:
        super().__init__(route, waiting, reporter, tracking)
        self._crew = Crew()

    async def call(self, loader: Callable[[], Any], timeout: float | None = None) -> Any:
        """Call *loader* and return its value; with a *timeout*, on a thread of its own.

        Raises:
            TypeError: it returned an awaitable; that is for the async colour.
        """
        value = loader() if timeout is None else self._crew.call(loader, timeout)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError(f"{loader!r} returned an awaitable: a sync cache needs a plain function, or use AsyncForebay")
        return value

    async def await_change(self, name: str, still: Callable[[bytes | None], bool], timeout: float) -> bytes | None:
        """Return what is stored under *name* once that is not *still* so; told by the server on a connection made for that."""
        limit = time.monotonic() + timeout
        stream: Stream | None = None
        attempt = 0
        try:
            while True:
                key = name.encode()
                if stream is None and not attempt:
                    stream = await self._tracking_stream(name, limit - time.monotonic())
                read = [("get", key), ("pttl", key)]
                replies = await (self.execute_many(read) if stream is None else stream.ask([pack(each) for each in read]))
                raise_refusal(replies)
                data: bytes | None = replies[0]
                left = limit - time.monotonic()
                if left <= 0 or not still(data):
                    return data
                pause = min(left, replies[1] / 1000 + 0.001 if replies[1] >= 0 else left)
                attempt += 1
                if stream is None:
                    await self.waiting.sleep(min(pause, pause_before(attempt)))
                else:
                    await stream.next(pause)
        finally:
            if stream is not None:
                await stream.close()

    def ahead(self, commands: Sequence[tuple[Arg, ...]]) -> None:
        """There is no sending ahead of waiting."""

    async def _tracking_stream(self, name: str, patience: float) -> Stream | None:
        """Return a connection on which reads are tracked, or None if there is none to be had."""
        if not self.route.tells:
            return None
        stream = await self.route.stream(name, patience)
        (reply,) = await stream.ask([pack(("CLIENT", "TRACKING", "ON"))])
        if not isinstance(reply, ServerError):
            return stream
        await stream.close()
        return None

    async def close(self) -> None:
        """Let background work end, then close the wire."""
        self._crew.close(self.route.settings.close_timeout)
        await self.route.close()

    def promise(self) -> BlockingPromise[Any]:
        return BlockingPromise()

    def launch(self, work: Coroutine[Any, Any, None], *, finishes: bool = False) -> Callable[[], None]:  # noqa: ARG002 - all do
        complete(work)
        return _nothing_to_cancel

    def background(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run *work* on a thread of the crew, if one is free."""
        return self._crew.start(work)

    def repeat(self, every: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Run *work* every so many seconds, on the one thread that does so."""
        return self._crew.repeat(every, work)


def _nothing_to_cancel() -> None:
    """The work ran to its end before `launch` returned."""
