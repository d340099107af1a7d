"""A connection that is told of every change in one namespace, whoever makes it: for the near tier of threads, and for callbacks.

What it says is not in order with the replies on other connections. Whoever reads therefore marks its read, and keeps
nothing that was changed while it was under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from ..errors import ForebayError, ServerError, Unavailable
from ..events import NearTierOff, Reporter
from ..forks import renew_after_fork
from ..port.port import Port, raise_refusal
from ..wire.resp import Arg, Push, pack
from ..wire.tracking import names_in
from .roll import Roll

if TYPE_CHECKING:
    from ..wire.node import Stream

__all__ = ["Broadcast"]

_PAUSE: Final = 0.1  # seconds until a lost connection is opened again
_TURN: Final = 1.0  # seconds after which a listener looks whether it is to end


class Broadcast:
    """Listens for changes of all keys that begin with one of *prefixes*, from the first time that it is asked on."""

    def __init__(self, port: Port, namespace: str, prefixes: Sequence[str], reporter: Reporter, roll: Roll | None = None) -> None:
        self._port = port
        self._namespace = namespace
        self._prefixes = prefixes if roll is None else [*prefixes, *roll.prefixes]
        self.roll = roll
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
        try:
            while not self._port.waiting.stopped:
                try:
                    stream = await self._port.stream()
                    try:
                        (reply,) = await stream.ask([opening])
                        if isinstance(reply, ServerError):
                            self._reporter.report(NearTierOff(reply, self._namespace))
                            return
                        await self._hear_all(stream)
                    finally:
                        self._forget()
                        await stream.close()
                except ServerError as error:
                    if not isinstance(error, Unavailable):  # it will not be otherwise the next time
                        self._reporter.report(NearTierOff(error, self._namespace))
                        return
                    await self._port.waiting.sleep(_PAUSE)
                except ForebayError:
                    await self._port.waiting.sleep(_PAUSE)
        except BaseException:  # the loop that it ran on has ended: whoever asks next may listen on another
            self._started = False
            raise

    async def _hear_all(self, stream: Stream) -> None:
        source = self._source = object()
        self._hear(source, None)  # what changed while nobody listened
        roll, waiting = self.roll, self._port.waiting
        due = monotonic()
        while not waiting.stopped:
            if roll is not None and monotonic() >= due:
                due = await self._enrol(roll, stream, source)
            push = await stream.next(_TURN if roll is None else min(_TURN, max(0.0, due - monotonic())))
            if push is not None and not await self._heed(push, stream, source):
                due = 0.0  # what the server forgets may be the roll as well

    async def _enrol(self, roll: Roll, stream: Stream, source: object) -> float:
        """Renew the lease, and heed everything that was told before the reply; return when to do so again."""
        sent_at = monotonic()
        raise_refusal(await stream.ask(roll.enrolment()))
        while (push := await stream.next(0.0)) is not None:
            if not await self._heed(push, stream, source):
                return 0.0
        return roll.enrolled(sent_at)

    async def _heed(self, push: Push, stream: Stream, source: object) -> bool:
        """Pass on what *push* says of changed keys, then answer those who call; False if anything may have changed."""
        changed, names = names_in(push)
        if not changed:
            return True
        roll = self.roll
        if names is None and roll is not None:
            roll.until = 0.0
        self._hear(source, names)
        answers = roll.answers_to(names) if roll is not None and names is not None else []
        if answers:
            await stream.ask(answers)
        return names is not None

    def _forget(self) -> None:
        source, self._source = self._source, None
        if self.roll is not None:
            self.roll.until = 0.0
        if source is not None:
            self._hear(source, None)

    def _hear(self, source: object, names: list[bytes] | None) -> None:
        self._port.tracking.invalidated(source, names)
        for callback in list(self._callbacks):
            callback(names)

    def __repr__(self) -> str:
        return f"<Broadcast of {self._namespace!r}, {'listening' if self._source is not None else 'not listening'}>"
