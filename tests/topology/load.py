"""Many callers at once, in either colour, from one body: 64 tasks, or 16 threads. Every value names its key, so a wrong reply shows."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from forebay import AsyncForebay, ForebayError, Unavailable
from forebay.colours import complete

__all__ = ["CALLERS", "THREADS", "Body", "Load", "called", "check_read", "eventually", "script", "under_load"]

CALLERS: Final = 64
THREADS: Final = 16
_BREATH: Final = 0.02


class Load:
    """What callers saw. A caller writes to its own entries alone, so there is no lock."""

    def __init__(self, callers: int) -> None:
        self.callers = callers
        self.stopped = threading.Event()
        self.errors: defaultdict[int, list[BaseException]] = defaultdict(list)
        self.unfit: list[BaseException] = []  # errors that no caller may be given for a fault of a server
        self.acknowledged: defaultdict[int, list[str]] = defaultdict(list)
        self.confirmed: defaultdict[int, list[str]] = defaultdict(list)
        self.wrong: list[str] = []
        self.served_at = dict.fromkeys(range(callers), time.monotonic())
        self.longest_gap = dict.fromkeys(range(callers), 0.0)
        self.rounds = dict.fromkeys(range(callers), 0)

    async def turns(self, bay: Any, caller: int) -> AsyncIterator[int]:
        """Yield 0, 1, 2 ... until the load is stopped; a caller that was told that the server is away does not ask again at once."""
        failed = 0
        while not self.stopped.is_set():
            yield self.rounds[caller]
            self.rounds[caller] += 1
            if len(self.errors[caller]) > failed:
                failed = len(self.errors[caller])
                if isinstance(bay, AsyncForebay):
                    await asyncio.sleep(_BREATH)
                else:
                    self.stopped.wait(_BREATH)

    @contextlib.contextmanager
    def turn(self, caller: int) -> Iterator[None]:
        """Note how one turn of a caller ends: well, with the server unavailable, or with what no fault of a server may ever cause."""
        try:
            yield
        except Unavailable as error:
            self.errors[caller].append(error)
        except (ForebayError, asyncio.CancelledError) as error:
            self.errors[caller].append(error)
            self.unfit.append(error)
        else:
            now = time.monotonic()
            self.longest_gap[caller] = max(self.longest_gap[caller], now - self.served_at[caller])
            self.served_at[caller] = now

    def all_errors(self) -> list[BaseException]:
        return [error for errors in self.errors.values() for error in errors]

    def all_served_since(self, moment: float, callers: range | None = None) -> bool:
        """Whether every caller has had a turn without an error that ended after *moment*."""
        return all(self.served_at[caller] > moment for caller in callers or range(self.callers))

    def check(self) -> None:
        """Assert that nobody got a wrong reply, nor an error of the wrong kind."""
        assert not self.wrong, f"{len(self.wrong)} wrong replies: {self.wrong[:5]}"
        kinds = Counter(f"{type(error).__name__}: {error}" for error in self.unfit)
        assert not self.unfit, f"errors that no caller may be given: {dict(kinds)}"

    async def goes_on(self, what: str) -> None:
        """Return once every caller has begun and ended a turn."""
        before = dict(self.rounds)
        await eventually(lambda: all(self.rounds[caller] > begun + 1 for caller, begun in before.items()), what, 10)

    async def warm(self) -> None:
        """Return once every caller has had some turns."""
        await eventually(lambda: min(self.rounds.values()) >= 20, "every caller is at work", 10)


Body = Callable[[Any, Load, int], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def under_load(bay: Any, body: Body) -> AsyncIterator[Load]:
    """Run *body* with (bay, load, number of the caller) in every caller; an error that it lets out is raised at the end."""
    load = Load(CALLERS if isinstance(bay, AsyncForebay) else THREADS)
    with ThreadPoolExecutor(THREADS) as threads:
        if isinstance(bay, AsyncForebay):
            work: list[Awaitable[None]] = [asyncio.ensure_future(body(bay, load, caller)) for caller in range(load.callers)]
        else:
            loop = asyncio.get_running_loop()
            work = [loop.run_in_executor(threads, complete, body(bay, load, caller)) for caller in range(load.callers)]
        try:
            await load.warm()
            yield load
        finally:
            load.stopped.set()
            await asyncio.gather(*work)


async def eventually(condition: Callable[[], bool], what: str, within: float) -> None:
    """Return once *condition* holds; the loop goes on meanwhile."""
    limit = time.monotonic() + within
    while not condition():
        assert time.monotonic() < limit, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.01)


async def called(work: Coroutine[Any, Any, Any], bay: Any) -> Any:
    """Finish *work* without stopping the loop: what a blocking bay does goes to a thread."""
    return await work if isinstance(bay, AsyncForebay) else await asyncio.to_thread(complete, work)


async def script(bay: Any, source: str, keys: list[str], args: list[str]) -> Any:
    """Run a script in either colour."""
    if isinstance(bay, AsyncForebay):
        return await bay.script(source)(keys=keys, args=args)
    return bay.wrapped.script(source)(keys=keys, args=args)


def check_read(load: Load, key: str, value: Any, expected: str | None = None) -> None:
    """Note a value that is not *expected*, or without that, one that was never written to *key*. A missing one is no wrong reply."""
    text = value.decode() if isinstance(value, bytes) else value
    if text != expected if expected is not None else text is not None and not str(text).startswith(f"{key}="):
        load.wrong.append(f"{key}: {text!r}, expected {expected!r}")
