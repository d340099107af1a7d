"""``outbox=True``: an invalidation that could not be sent is kept, in this process alone, and tried again until it succeeds.

While any waits, what this process remembers or could read may be what it ought to have removed. So its caches behave as if the
server were still away: nothing near is served, reads load, nothing is stored. Bounded; what does not fit is an error.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Final

from ..errors import ServerError, Unavailable
from ..events import CacheEvent, InvalidationLost, InvalidationQueued, Reporter
from ..forks import renew_after_fork
from ..port.port import Arg, Port, Reply
from ..wire.resilience import pause_before

__all__ = ["GatedPort", "Outbox"]

_MOST: Final = 10_000
_PAUSE: Final = 0.02  # seconds at least between two attempts

Work = Callable[[], Awaitable[Any]]


class _Waiting:
    __slots__ = ("key", "namespace", "operation", "work")

    def __init__(self, namespace: str, operation: str, key: object, work: Work) -> None:
        self.namespace = namespace
        self.operation = operation
        self.key = key
        self.work = work


class Outbox:
    """The invalidations of one bay that wait. All changes happen under a lock; the same one waits once."""

    def __init__(self, port: Port, reporter: Reporter) -> None:
        self._port = port
        self._reporter = reporter
        self._closed = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin empty, in a forked child: the parent sends its own."""
        self._lock = threading.Lock()
        self._waiting: OrderedDict[tuple[str, str, str], _Waiting] = OrderedDict()
        self._sending = False
        self._sent = 0
        self.pending = 0  #: how many wait

    def put(self, namespace: str, operation: str, key: object, work: Work, error: Unavailable) -> None:
        """Keep *work*, which failed with *error*, and try it in the background.

        Raises:
            Unavailable: *error* itself, if there is no room, or the bay is closed.
        """
        same = (namespace, operation, repr(key))
        with self._lock:
            if self._closed or (len(self._waiting) >= _MOST and same not in self._waiting):
                error.add_note(f"the outbox did not take it: it is {'closed' if self._closed else f'full, with {_MOST} invalidations'}")
                raise error
            self._waiting[same] = _Waiting(namespace, operation, key, work)
            self.pending = len(self._waiting)
        self._reporter.report(InvalidationQueued(error, namespace, operation, key))
        self.nudge()

    def nudge(self) -> None:
        """Send what waits, in the background, unless that is being done."""
        with self._lock:
            if self._sending:
                return
            self._sending = True
            self._sent += 1
        self._port.waiting.spawn(self._send(), f"forebay-outbox-{id(self)}-{self._sent % 8}")  # the one before may just be ending

    async def _send(self) -> None:
        try:
            for attempt in count(1):
                await self._send_all()
                with self._lock:
                    if not self._waiting:
                        self._sending = False  # here, so that whoever puts something in now sends it
                        return
                await self._port.waiting.sleep(max(_PAUSE, pause_before(attempt)))
                if self._port.waiting.stopped:
                    self._sending = False
                    return
        except BaseException:  # its loop ended: the next nudge is another's
            self._sending = False
            raise

    async def _send_all(self) -> None:
        """Try what waits, one after the other, until one fails."""
        for same, waiting in list(self._waiting.items()):
            try:
                await waiting.work()
            except Unavailable:
                return
            except ServerError as error:  # it will not be otherwise the next time
                self._lost(waiting, error)
            self._forget(same, waiting)

    def _forget(self, same: tuple[str, str, str], waiting: _Waiting) -> None:
        with self._lock:
            if self._waiting.get(same) is waiting:
                del self._waiting[same]
            self.pending = len(self._waiting)

    def _lost(self, waiting: _Waiting, error: BaseException) -> None:
        event: CacheEvent = InvalidationLost(error, waiting.namespace, waiting.operation, waiting.key)
        self._reporter.report(event)

    async def close(self) -> None:
        """Try what waits once more, and report what is lost."""
        with self._lock:
            self._closed = True
        for same, waiting in list(self._waiting.items()):
            try:
                await waiting.work()
            except (Unavailable, ServerError) as error:
                self._lost(waiting, error)
            self._forget(same, waiting)

    def __repr__(self) -> str:
        return f"<Outbox, {self.pending} invalidations wait>"


class GatedPort:
    """Passes everything on to *port*, save what belongs to a request, and is in a hurry, while invalidations wait."""

    def __init__(self, port: Port, outbox: Outbox) -> None:
        self._port = port
        self._outbox = outbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def get(self, name: str) -> Awaitable[Reply]:
        """``get`` *name*."""
        self._check()
        return self._port.get(name)

    def track(self, key: bytes, commands: Sequence[tuple[Arg, ...]], *, told: bool = True) -> Awaitable[tuple[list[Reply], object | None]]:
        """Read *key* and be told when it changes."""
        self._check()
        return self._port.track(key, commands, told=told)

    def execute(self, *args: Arg, timeout: float | None = None, idempotent: bool = False, replica: bool = False) -> Awaitable[Reply]:
        """Send one command; raise its refusal."""
        if _hurried(args):
            self._check()
        return self._port.execute(*args, timeout=timeout, idempotent=idempotent, replica=replica)

    def execute_many(
        self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None, idempotent: bool = False, replica: bool = False
    ) -> Awaitable[list[Reply]]:
        """Send several commands in one write; refusals are values in the list."""
        if commands and _hurried(commands[0]):
            self._check()
        return self._port.execute_many(commands, timeout=timeout, idempotent=idempotent, replica=replica)

    def _check(self) -> None:
        if self._outbox.pending:
            self._outbox.nudge()
            error = Unavailable(f"{self._outbox.pending} invalidations have not reached the server yet: until then nothing stored counts")
            error.final = True
            raise error

    def __repr__(self) -> str:
        return f"<GatedPort of {self._port!r}>"


def _hurried(args: tuple[Arg, ...]) -> bool:
    return isinstance(args[0], str) and args[0].islower()
