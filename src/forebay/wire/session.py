"""One connection without its socket. Everything that decides which reply belongs to which command happens here.

Rule 1: slots are answered in the order in which they were added. Rule 2: an abandoned slot keeps its place, and its reply
is dropped. Rule 3: after any anomaly the session is over; every slot still waiting fails, and no reply is handed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..errors import ProtocolViolation, ServerError
from .resp import NOT_ENOUGH, Push, Reply, new_reader

__all__ = ["Batch", "Nobody", "Session", "Slot"]


class Slot(Protocol):
    """Where one reply goes. An ``asyncio.Future`` is one."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""

    def set_result(self, result: Reply, /) -> None:
        """Take the reply."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Take the server's refusal, or the reason why no reply will come."""


class Batch:
    """One slot for several commands: it takes its place once for each, and settles *whole* with the list of replies.

    Refusals by the server stand in the list as `ServerError` values.
    """

    __slots__ = ("_missing", "_replies", "_whole")

    def __init__(self, whole: Slot, size: int) -> None:
        self._whole = whole
        self._missing = size
        self._replies: list[Reply] = []

    def done(self) -> bool:
        return self._whole.done()

    def set_result(self, result: Reply, /) -> None:
        self._replies.append(result)
        self._missing -= 1
        if not self._missing:
            self._whole.set_result(self._replies)

    def set_exception(self, exception: BaseException, /) -> None:
        if isinstance(exception, ServerError):
            self.set_result(exception)
        else:
            said = self.refusal
            self._whole.set_exception(exception if said is None else type(exception)(f"{exception}; it had said: {said}"))

    @property
    def refusal(self) -> ServerError | None:
        """The first refusal that has arrived."""
        return next((reply for reply in self._replies if isinstance(reply, ServerError)), None)


class Nobody:
    """The slot of a command whose reply nobody waits for."""

    __slots__ = ()

    def done(self) -> bool:
        return True

    def set_result(self, result: Reply, /) -> None:
        """Never called."""

    set_exception = set_result


class Session:
    """The FIFO of slots of one connection, and the parser that feeds it."""

    __slots__ = ("_on_push", "_on_refusal", "_partial", "_reader", "_stray", "slots")

    def __init__(self, on_push: Callable[[Push], None] | None = None, on_refusal: Callable[[ServerError], None] | None = None) -> None:
        self.slots: deque[Slot] = deque()
        self._reader = new_reader()
        self._on_push = on_push
        self._on_refusal = on_refusal  # of a command whose answer is pushes
        self._partial = False  # part of a frame may have arrived; known for sure while nothing is awaited
        self._stray = False  # part of a frame arrived while nothing was asked: only a push may begin like that

    def receive(self, data: bytes) -> int:
        """Settle the slots that *data* answers, and return how many places were answered.

        Raises:
            ProtocolViolation: the bytes are no reply, or a reply to nothing. The connection must be dropped.
        """
        if not self._partial and data[:1] == b"|":
            # The parser would take it for a reply, and all would shift by one. No server sends one unless it is told to.
            raise ProtocolViolation("an attribute arrived that nobody had asked for")
        reader, slots = self._reader, self.slots
        gets, has_data = reader.gets, reader.has_data
        answered = 0
        stray = self._stray
        reader.feed(data)
        self._partial = self._partial or bool(data)
        while True:
            try:
                reply = gets()
            except (TypeError, MemoryError) as error:
                raise ProtocolViolation(f"a reply that cannot be held: {error!r}") from error
            if reply is NOT_ENOUGH:
                break
            kind = type(reply)
            if kind is Push:
                if self._on_push is not None:
                    self._on_push(reply)
            elif slots and not stray:
                slot = slots.popleft()
                answered += 1
                if not slot.done():
                    if kind is bytes or not isinstance(reply, ServerError):
                        slot.set_result(reply)
                    else:
                        slot.set_exception(reply)
            elif self._on_refusal is not None and isinstance(reply, ServerError) and not stray:
                self._on_refusal(reply)
            else:
                raise ProtocolViolation("a reply arrived that nobody had asked for")
            stray = False
            if not slots and not has_data():  # which says so right behind a whole frame only
                self._partial = False
                break
        self._stray = stray if slots else self._partial
        return answered

    @property
    def quiet(self) -> bool:
        """Whether nothing is awaited and no part of a reply has arrived."""
        return not self.slots and not self._partial

    def fail(self, reason: Callable[[], BaseException]) -> None:
        """End the session: every waiting slot gets an error of its own."""
        while self.slots:
            slot = self.slots.popleft()
            if not slot.done():
                slot.set_exception(reason())
