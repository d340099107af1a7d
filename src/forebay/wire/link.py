"""One asyncio connection that many callers share: commands of one tick leave in one write, replies settle futures in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import cast

from ..errors import ConnectionLost, DeadlineExceeded, ForebayError, ProtocolViolation
from ..settings import Settings
from .address import Address
from .deadlines import Deadlines
from .resp import Reply
from .session import Batch, Session, Slot

__all__ = ["Link"]

_SILENCE_FACTOR = 2  # a connection that owes replies and is silent for this many read timeouts is given up


class Link(asyncio.Protocol):
    """A `Session` on an asyncio transport. It lives on one event loop, and never reconnects."""

    def __init__(self, address: Address, settings: Settings, on_drop: Callable[[Link, BaseException], None]) -> None:
        self.ready = False
        self.address = address
        self._settings = settings
        self._on_drop = on_drop
        self._loop = asyncio.get_running_loop()
        self._session = Session()
        self._slots = self._session.slots
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._deadlines = Deadlines(settings.read_timeout, settings.read_timeout * _SILENCE_FACTOR, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = self._loop.create_future()
        self._broken: BaseException | None = None

    def send(self, packed: bytes) -> asyncio.Future[Reply]:
        """Queue one command; return the future of its reply. Cancelling it abandons the slot, which keeps its place."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(packed)
        self._slots.append(future)
        return future

    def send_batch(self, packed: Sequence[bytes]) -> asyncio.Future[list[Reply]]:
        """Queue several commands for the same write; return the future of the list of their replies."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.extend(packed)
        slot: Slot = Batch(future, len(packed))
        self._slots.extend([slot] * len(packed))
        return future

    async def writable(self) -> None:
        """Wait until the transport takes bytes again, at most the write timeout.

        Raises:
            ConnectionLost: the link broke meanwhile. The caller's command was not sent.
        """
        await self._writable.wait()
        if self._broken is not None:
            raise ConnectionLost(f"{self.address}: {self._broken}") from self._broken

    @property
    def in_flight(self) -> int:
        """How many commands await their reply, abandoned ones included."""
        return len(self._slots)

    async def close(self, patience: float) -> None:
        """Let what is in flight finish for at most *patience* seconds, then close and wait until the socket is gone."""
        self.ready = False
        if self._slots:
            last: asyncio.Future[Reply] = self._loop.create_future()
            self._out.append(b"*1\r\n$4\r\nPING\r\n")
            self._slots.append(last)
            self._loop.call_soon(self._flush)
            await asyncio.wait([last], timeout=patience)
            if not last.done():
                last.cancel()
            elif not last.cancelled():
                last.exception()
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self._closed], timeout=patience)

    def drop(self, cause: BaseException) -> None:
        """Give the connection up: everything in flight fails, nothing more is read."""
        if self._broken is not None:
            return
        self._broken = cause
        self.ready = False
        self._out.clear()
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._session.fail(self._lost)
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()
        self._on_drop(self, cause)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._broken is not None:
            return
        try:
            answered = self._session.receive(data)
        except ForebayError as error:
            self.drop(error)
        else:
            self._deadlines.heard(answered, self._loop.time())

    def eof_received(self) -> None:
        self.drop(ConnectionResetError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(exc or ConnectionResetError("the connection was closed"))
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self.ready = False
        self._writable.clear()
        self._write_timer = self._loop.call_later(self._settings.write_timeout, self._write_blocked)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
        self.ready = self._broken is None
        self._writable.set()

    # internals

    def _flush(self) -> None:
        out = self._out
        if not out or self._transport is None:
            return
        places = len(out)
        self._transport.write(out[0] if places == 1 else b"".join(out))
        out.clear()
        self._deadlines.sent(places, self._loop.time())
        if self._timer is None:
            self._timer = self._loop.call_later(self._settings.read_timeout, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self._deadlines.silent(now):
            self.drop(ProtocolViolation(f"nothing was heard for {self._deadlines.silence:g} s while replies were due"))
            return
        for slot in list(islice(self._slots, self._deadlines.overdue(now))):
            if not slot.done():
                slot.set_exception(DeadlineExceeded(f"{self.address} did not answer within {self._settings.read_timeout:g} s"))
        look = self._deadlines.next_look()
        self._timer = None if look is None else self._loop.call_at(look, self._look)

    def _write_blocked(self) -> None:
        self.drop(TimeoutError(f"{self.address} took no bytes for {self._settings.write_timeout:g} s"))

    def _lost(self) -> ConnectionLost:
        error = ConnectionLost(f"connection to {self.address} lost while its reply was awaited: {self._broken}")
        error.__cause__ = self._broken
        return error

    def __repr__(self) -> str:
        state = "broken" if self._broken is not None else "ready" if self.ready else "waiting"
        return f"<Link {self.address} {state}, {len(self._slots)} in flight>"
