"""A connection that is told of every change in one namespace, whoever makes it: for the near tier of threads, and for callbacks.

What it says is not in order with the replies on other connections. Whoever reads therefore marks its read, and keeps
nothing that was changed while it was under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import ForebayError, ServerError, Unavailable
from ..events import NearTierOff, Reporter
from ..forks import renew_after_fork
from ..port.port import Port
from ..wire.resp import Arg, pack
from ..wire.tracking import names_in

__all__ = ["Broadcast"]

_PAUSE: Final = 0.1  # seconds until a lost connection is opened again


class Broadcast:
    """Listens for changes of all keys that begin with one of *prefixes*, from the first time that it is asked on."""

    def __init__(self, port: Port, namespace: str, prefixes: Sequence[str], reporter: Reporter) -> None:
        self._port = port
        self._namespace = namespace
        self._prefixes = prefixes
        self._reporter = reporter
        self._callbacks: list[Callable[[list[bytes] | None], None]] = []
        self._source: object | None = None
        self._started = False
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin anew in a forked child: the listener runs in the parent."""
        self._source = None
        self._started = False
        self._lock = threading.Lock()
        self._callbacks = []

    def listening(self) -> object | None:
        """Return what stands for the connection, or None while there is none; the first call opens it in the background."""
        if not self._started:
            self.start()
        return self._source

    def start(self) -> None:
        """Listen in the background."""
        with self._lock:
            if self._started:
                return
            self._started = True
        self._port.waiting.spawn(self._listen(), f"forebay-broadcast-{self._namespace}-{id(self)}")

    def tell(self, callback: Callable[[list[bytes] | None], None]) -> Callable[[], None]:
        """Call *callback* with the names that changed (None: any may have); return what ends that."""
        self._callbacks.append(callback)
        if not self._started:
            self.start()
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    async def _listen(self) -> None:
        prefixes: list[Arg] = [word for prefix in self._prefixes for word in ("PREFIX", prefix)]
        opening = pack(("CLIENT", "TRACKING", "ON", "BCAST", *prefixes))
        while not self._port.waiting.stopped:
            try:
                stream = await self._port.stream()
                try:
                    (reply,) = await stream.ask([opening])
                    if isinstance(reply, ServerError):
                        self._reporter.report(NearTierOff(reply, self._namespace))
                        return
                    source = self._source = object()
                    self._hear(source, None)  # what changed while nobody listened
                    while not self._port.waiting.stopped:
                        push = await stream.next(1.0)
                        changed, names = names_in(push) if push is not None else (False, None)
                        if changed:
                            self._hear(source, names)
                finally:
                    self._forget()
                    await stream.close()
            except (Unavailable, ForebayError):
                await self._port.waiting.sleep(_PAUSE)

    def _forget(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            self._hear(source, None)

    def _hear(self, source: object, names: list[bytes] | None) -> None:
        self._port.tracking.invalidated(source, names)
        for callback in list(self._callbacks):
            callback(names)

    def __repr__(self) -> str:
        return f"<Broadcast of {self._namespace!r}, {'listening' if self._source is not None else 'not listening'}>"
