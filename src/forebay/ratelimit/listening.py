"""threads: one connection for all limiters of a bay, on which refused keys are read, and which is told when they change.

Pooled sockets are not listened to while they are idle, so that nothing could be told there. The thread that listens looks for new keys
in between; with nothing remembered it sleeps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ..errors import ForebayError, ServerError, Unavailable
from ..forks import renew_after_fork
from ..port.port import Port, Reply
from ..wire.resp import Arg, pack
from ..wire.tracking import names_in
from .refusals import Track

if TYPE_CHECKING:
    from ..wire.node import Stream

__all__ = ["RefusalListener"]

_TRACKING: Final = pack(("CLIENT", "TRACKING", "ON"))
_LOOK: Final = 0.01  # seconds after which a new key is looked for
_SLEEP: Final = 0.25  # seconds after which a sleeper looks whether it is to end
_BUSY: Final = 1.0  # seconds after the last key in which another one is looked for so often
_READS: Final = 16  # keys that are read before it is heard what has changed
_MOST: Final = 1000  # keys that wait to be read
_PAUSE: Final = 0.1  # seconds until a lost connection is opened again


class RefusalListener:
    """Reads what it is given, on a thread of its own, as long as *port* is open."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without a thread, in a forked child."""
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[Track], Coroutine[Any, Any, None]]] = deque()
        self._started = False

    def give(self, learning: Callable[[Track], Coroutine[Any, Any, None]]) -> bool:
        """Have *learning* done with a way to track; False if there is too much of that already."""
        with self._changed:
            if len(self._waiting) >= _MOST:
                return False
            self._waiting.append(learning)
            start, self._started = not self._started, True
            self._changed.notify()
        if start:
            self._port.waiting.spawn(self._listen(), f"forebay-limits-{id(self)}")
        return True

    async def _listen(self) -> None:
        try:
            await self._listen_on()
        finally:
            self._started = False  # whoever gives something next starts anew

    async def _listen_on(self) -> None:
        while self._sleep():
            try:
                stream = await self._port.stream()
            except ForebayError:
                await self._give_up(_nothing_tells)
                await self._port.waiting.sleep(_PAUSE)
                continue
            try:
                (reply,) = await stream.ask([_TRACKING])
                if isinstance(reply, Unavailable):  # not now
                    raise reply
                if isinstance(reply, ServerError):
                    await self._refused()
                    return
                await self._work(stream)
            except ForebayError:  # the connection was lost, or is of no use yet, and another is opened
                await self._give_up(_nothing_tells)
                await self._port.waiting.sleep(_PAUSE)
            finally:
                self._port.tracking.lost(stream)
                await stream.close()

    def _sleep(self) -> bool:
        """Sleep until there is something to read; False once the bay is closed."""
        while not self._port.waiting.stopped:
            with self._changed:
                if self._waiting or self._changed.wait(_SLEEP):
                    return True
        return False

    async def _work(self, stream: Stream) -> None:
        async def track(_key: bytes, commands: Sequence[tuple[Arg, ...]]) -> tuple[list[Reply], object | None]:
            return await stream.ask([pack(command) for command in commands]), stream

        busy_until = 0.0
        while not self._port.waiting.stopped:
            for _ in range(min(len(self._waiting), _READS)):
                await self._waiting.popleft()(track)
                busy_until = monotonic() + _BUSY
            patience = 0.0 if self._waiting else _LOOK if monotonic() < busy_until else _SLEEP
            while (push := await stream.next(patience)) is not None:  # all that is there goes before what is read next
                changed, names = names_in(push)
                if changed:
                    self._port.tracking.invalidated(stream, names)
                patience = 0.0

    async def _refused(self) -> None:
        """The server does not tell of changes, and will not: each refusal is asked for."""
        while self._sleep():
            await self._give_up(_nothing_tells)

    async def _give_up(self, track: Track) -> None:
        while self._waiting:
            await self._waiting.popleft()(track)

    def __repr__(self) -> str:
        return f"<RefusalListener, {len(self._waiting)} to read{'' if self._started else ', not started'}>"


async def _nothing_tells(_key: bytes, _commands: Sequence[tuple[Arg, ...]]) -> tuple[list[Reply], object | None]:
    return [], None
