"""threads: work that nobody's own thread does: background refreshes, loads with a time limit, and the renewal of leases."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from itertools import count
from typing import Any, Final

from ..colours import complete
from ..errors import LoaderTimeout
from ..forks import renew_after_fork

__all__ = ["Crew"]

_MOST: Final = 32
_IDLE: Final = 5.0  # seconds without anything to repeat, after which that thread ends


class Crew:
    """Daemon threads, of which at most `_MOST` do background work at once."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without threads, in a forked child: they run in the parent."""
        self._changed = threading.Condition()
        self._at_work: set[threading.Thread] = set()
        self._heap: list[tuple[float, int, float, Callable[[], Coroutine[Any, Any, None]]]] = []
        self._numbers = count()
        self._current: set[int] = set()
        self._repeats = False
        self._closed = False

    def start(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run *work* on a thread; False, and *work* is closed, if too many are at work already or the crew has ended."""
        thread = threading.Thread(target=copy_context().run, args=(self._run, work), name="forebay-background", daemon=True)
        with self._changed:
            if self._closed or len(self._at_work) >= _MOST:
                work.close()
                return False
            self._at_work.add(thread)
        thread.start()
        return True

    def call(self, function: Callable[[], Any], timeout: float) -> Any:
        """Return what *function* returns, or raise `LoaderTimeout` after *timeout* seconds; it runs on, and nobody hears of it."""
        outcome: list[tuple[bool, Any]] = []
        done = threading.Event()

        def run() -> None:
            try:
                outcome.append((True, function()))
            except BaseException as error:  # noqa: BLE001 - it is raised by whoever waits
                outcome.append((False, error))
            finally:
                done.set()

        threading.Thread(target=copy_context().run, args=(run,), name="forebay-load", daemon=True).start()
        if not done.wait(timeout):
            raise LoaderTimeout(f"the loader did not return within its hard_timeout of {timeout:g} s")
        well, value = outcome[0]
        if well:
            return value
        raise value

    def repeat(self, every: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Run *work* every so many seconds, one after the other with all others', until what is returned is called."""
        number = next(self._numbers)
        with self._changed:
            self._current.add(number)
            heapq.heappush(self._heap, (time.monotonic() + every, number, every, work))
            if not self._repeats:
                self._repeats = True
                threading.Thread(target=self._repeat, name="forebay-leases", daemon=True).start()
            if self._heap[0][1] == number:
                self._changed.notify()
        return lambda: self._current.discard(number)

    def close(self, patience: float) -> None:
        """Start nothing more, and wait up to *patience* seconds for what runs."""
        limit = time.monotonic() + patience
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._at_work - {threading.current_thread()}, max(0.0, limit - time.monotonic()))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            complete(work)
        finally:
            with self._changed:
                self._at_work.discard(threading.current_thread())
                self._changed.notify_all()

    def _repeat(self) -> None:
        while True:
            with self._changed:
                if not self._heap:
                    self._changed.wait(_IDLE)
                    if not self._heap:
                        self._repeats = False
                        return
                due, number, every, work = self._heap[0]
                wait = due - time.monotonic()
                if number in self._current and wait > 0:
                    self._changed.wait(wait)
                    continue
                heapq.heappop(self._heap)
                if number not in self._current:
                    continue
                heapq.heappush(self._heap, (time.monotonic() + every, number, every, work))
            complete(work())

    def __repr__(self) -> str:
        return f"<Crew, {len(self._at_work)} at work, {len(self._current)} leases renewed>"
