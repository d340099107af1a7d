"""What a route needs besides its nodes: pauses, one at a time, several at once, and work in the background. Here for threads."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

from ..colours import complete
from ..errors import ConnectFailed, ForebayError
from ..forks import renew_after_fork

__all__ = ["STILL_ASKING", "BlockingWaiting", "Guard", "Waiting"]

STILL_ASKING: Final = "another caller is still finding out where the server is"

T = TypeVar("T")


class Guard(Protocol):
    """``async with guard:`` lets one in at a time."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Waiting(Protocol):
    """One colour's ways to wait."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Pause the caller."""

    def guard(self, patience: float) -> Guard:
        """Return the guard of the caller's loop, or of all threads. Entering it raises `ConnectFailed` after *patience* seconds."""

    def run(self, function: Callable[[], T]) -> Awaitable[T]:
        """Call a function that may block."""

    def gather(self, works: Sequence[Awaitable[T]]) -> Awaitable[list[T | BaseException]]:
        """Run all to their end, at the same time where the colour can; Forebay's errors are values in the list."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run *work* in the background until it ends, or `stop` is called. One of that name at a time."""

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: background work must end."""

    def stop(self) -> Awaitable[None]:
        """End the background work."""


class _ThreadGuard:
    def __init__(self, lock: threading.Lock, patience: float) -> None:
        self._lock = lock
        self._patience = patience

    async def __aenter__(self) -> None:
        if not self._lock.acquire(timeout=min(max(0.0, self._patience), threading.TIMEOUT_MAX)):
            raise ConnectFailed(STILL_ASKING)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()


class BlockingWaiting:
    """The threads' colour of `Waiting`."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without background threads, in a forked child: they run in the parent."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    async def sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def guard(self, patience: float) -> Guard:
        return _ThreadGuard(self._lock, patience)

    async def run(self, function: Callable[[], T]) -> T:
        return function()

    async def gather(self, works: Sequence[Awaitable[T]]) -> list[T | BaseException]:
        results: list[T | BaseException] = []
        for work in works:
            try:
                results.append(await work)
            except ForebayError as error:
                results.append(error)
        return results

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        current = self._threads.get(name)
        if self._stop.is_set() or (current is not None and current.is_alive()):
            work.close()
            return
        thread = self._threads[name] = threading.Thread(target=complete, args=(work,), name=name, daemon=True)
        thread.start()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    async def stop(self) -> None:
        self._stop.set()
        for thread in self._threads.values():
            if thread is not threading.current_thread():
                thread.join(2)
