"""One asyncio connection that many callers share: commands of one tick leave in one write, replies settle futures in order.

What is in flight is bounded in commands and in bytes; who finds no room waits in line, and reading goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from ..errors import ConnectFailed, ConnectionLost, ForebayError, ProtocolViolation, ServerError
from ..settings import Settings
from .address import Address
from .deadlines import Deadlines
from .gatherable import Gatherable
from .gathering import Gathering
from .latency import Latencies, name_in
from .resilience import Breaker
from .resp import PING, Push, Reply
from .session import Batch, Nobody, Session, Slot
from .sockets import tune
from .stats import Meter
from .tracking import Listener, names_in
from .watch import Watch, farewell

__all__ = ["Link"]

_SILENCE_FACTOR = 2  # a connection that owes replies and is silent for this many read timeouts is given up


class Link(asyncio.Protocol):
    """A `Session` on an asyncio transport. It lives on one event loop, and never reconnects.

    *timeout* is that of each reply, None for a link whose user keeps the time. ``ready`` says that `send` may be called now.
    """

    def __init__(
        self,
        address: Address,
        settings: Settings,
        breaker: Breaker,
        meter: Meter,
        latencies: Latencies,
        on_drop: Callable[[Link, BaseException], None],
        timeout: float | None = None,
        on_push: Callable[[Push | ServerError], None] | None = None,
        on_large: Callable[[bytes], None] | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.ready = False
        self.address = address
        self.broken: BaseException | None = None
        self._settings = settings
        self._breaker = breaker
        self._meter = meter
        self._latencies = latencies
        self._on_drop = on_drop
        self._on_large = on_large
        self._unfinished = 0  # bytes of a reply that takes more than one receive
        self.loop = asyncio.get_running_loop()
        self._listener = listener
        self.tracks = listener is not None
        self._session = Session(on_push or self._hear, on_push or self._unasked)
        self._slots = self._session.slots
        self._most = settings.max_in_flight
        self._room = settings.max_in_flight_bytes
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()  # a turn, and the bytes to send
        self._granted = 0  # turns that were given and are not used yet, and their bytes
        self._granted_bytes = 0
        self._out: list[bytes] = []
        self._gathering = Gathering()
        self._transport: asyncio.Transport | None = None
        limit = math.inf if timeout is None else timeout
        self._deadlines = Deadlines(limit, limit * _SILENCE_FACTOR, self.loop.time())
        self._sample: tuple[int, str, float] | None = None
        self._watch = Watch(self, self._deadlines, self._slots, settings, breaker)
        self.closing = False
        self._last_words = ""
        self._greeted = False
        self._paused = False
        self._closed = self.loop.create_future()
        self._farewell = farewell(self, settings.close_timeout)
        self.leaving = False

    def send(self, packed: bytes) -> asyncio.Future[Reply]:
        """Queue one command; return the future of its reply. Cancelling it abandons the slot, which keeps its place."""
        future: asyncio.Future[Reply] = self.loop.create_future()
        out = self._out
        if not out:
            self.loop.call_soon(self._flush)
        out.append(packed)
        slots = self._slots
        slots.append(future)
        self._room -= len(packed)
        if self._room <= 0 or len(slots) >= self._most:
            self.ready = False
        return future

    def send_batch(self, packed: Sequence[bytes]) -> asyncio.Future[list[Reply]]:
        """Queue several commands for the same write; return the future of the list of their replies."""
        future: asyncio.Future[list[Reply]] = self.loop.create_future()
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out.extend(packed)
        slot: Slot = Batch(future, len(packed))
        self._slots.extend([slot] * len(packed))
        self._room -= sum(map(len, packed))
        self.renew_ready()
        return future

    def send_pair(self, first: bytes, second: bytes) -> tuple[asyncio.Future[Reply], asyncio.Future[Reply]]:
        """Queue two commands for the same write, as `send` would; return both futures."""
        one: asyncio.Future[Reply] = self.loop.create_future()
        other: asyncio.Future[Reply] = self.loop.create_future()
        if not self._out:
            self.loop.call_soon(self._flush)
        self._queue(first, one)
        self._queue(second, other)
        return one, other

    def gather(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> asyncio.Future[Reply]:
        """Add one record to a call that all share who make it in this tick; return the future of the reply to that record."""
        future: asyncio.Future[Reply] = self.loop.create_future()
        if not self._out and not self._gathering:
            self.loop.call_soon(self._flush)
        full = self._gathering.add(script, future, keys, key_count, words, word_count)
        if len(self._slots) + len(self._gathering) >= self._most:
            self.ready = False
        if full is not None:
            self._queue(full.packed(), full)
            self._flush()  # at once: the server is at work while others ask
        return future

    def push(self, packed: bytes) -> None:
        """Send a command whose answer is no reply but pushes."""
        if self._transport is not None:
            self._transport.write(packed)

    def ask_for_life(self) -> None:
        """Send a PING whose reply nobody waits for."""
        self.loop.call_soon(self._flush)
        self._queue(PING, Nobody())

    async def room(self, size: int) -> None:
        """Wait in line until there is room for *size* bytes more, or the link is broken or closing. First come, first served.

        Whoever returns from here on a link that is neither sends at once: the room is kept until then.
        """
        turn = self.loop.create_future()
        self._waiters.append((turn, size))
        self._call_waiters()  # what made it unready may be over without this link's doing: a breaker that another one closed
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    self._waiters.remove((turn, size))
                self.renew_ready()
            else:  # the turn was given, and is passed on
                self._take_back(size)
                self._call_waiters()
            raise
        self._take_back(size)
        self.loop.call_soon(self._call_waiters)

    @property
    def in_flight(self) -> int:
        """How many commands await their reply, abandoned ones included."""
        return len(self._slots)

    async def greeted(self) -> None:
        """Open the link for callers, after its handshake; from now on it takes leave when its loop shuts down."""
        self._greeted = True
        self._watch.begin()
        self.renew_ready()
        await anext(self._farewell)

    async def close(self, patience: float) -> None:
        """Let what is in flight finish for at most *patience* seconds, then close and wait until the socket is gone."""
        self._greeted = False
        self.closing = True
        self._call_waiters()
        self._close_gathering()  # so that it stands before the last command
        if self._slots and self.broken is None:
            last = self.send(PING)
            await asyncio.wait([last], timeout=patience)
            if not last.done():
                last.cancel()
            elif not last.cancelled():
                last.exception()
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self._closed], timeout=1.0)  # a matter of one turn of the loop

    def drop(self, cause: BaseException) -> None:
        """Give the connection up: everything in flight fails, nothing more is read."""
        if self.broken is not None:
            return
        self.broken = cause
        self.ready = False
        self._out.clear()
        self._watch.end()
        for each in self._gathering.drain():
            each.set_exception(ConnectFailed(f"connection to {self.address} lost before this was sent: {cause}"))
        self._session.fail(self._lost)
        self._call_waiters()
        if self._transport is not None:
            self._transport.abort()
        if not self.leaving:
            with suppress(StopIteration):
                self._farewell.aclose().send(None)
        if self._listener is not None:
            self._listener.lost(self)
        self._on_drop(self, cause)

    def renew_ready(self) -> None:
        """Look again whether callers may send: after anything that decides it has changed."""
        self.ready = (
            self._greeted and self.broken is None and not self._waiters and not self._granted and self._breaker.closed and self._has_room()
        )

    def _has_room(self) -> bool:
        return not self._paused and self._room > self._granted_bytes and len(self._slots) + self._granted < self._most

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self.broken is not None:
            return
        try:
            answered = self._session.receive(data)
        except ForebayError as error:
            self.drop(error)
            return
        now = self.loop.time()
        self._meter.bytes_received += len(data)
        self._room += self._deadlines.heard(answered, now)
        if not answered:
            self._note_large(len(data))
        else:
            self._unfinished = 0
            if self._breaker.troubled and self._greeted:  # a refused handshake is no sign of health
                self._breaker.succeeded()
            sample = self._sample
            if sample is not None and self._deadlines.answered > sample[0]:
                self._latencies.record(sample[1], now - sample[2])
                self._sample = None
            if not self.ready:
                self._call_waiters()

    def eof_received(self) -> None:
        self.drop(ConnectionResetError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(exc or ConnectionResetError("the connection was closed"))
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True
        self.ready = False
        self._watch.write_blocked()

    def resume_writing(self) -> None:
        self._paused = False
        self._watch.write_resumed()
        self._call_waiters()

    # internals

    def _queue(self, packed: bytes, slot: Slot) -> None:
        self._out.append(packed)
        self._slots.append(slot)
        self._room -= len(packed)
        if self._room <= 0 or len(self._slots) >= self._most:
            self.ready = False

    def _close_gathering(self) -> None:
        for gathered in self._gathering.drain():
            self._queue(gathered.packed(), gathered)

    def _flush(self) -> None:
        self._close_gathering()
        out = self._out
        if not out or self._transport is None:
            return
        places = len(out)
        data = out[0] if places == 1 else b"".join(out)
        now = self.loop.time()
        if self._sample is None and self._greeted:
            self._sample = (self._deadlines.sent_places, name_in(out[0]), now)
        self._transport.write(data)
        self._out = []
        self._meter.bytes_sent += len(data)
        self._deadlines.sent(places, now, len(data), out)
        if not self._watch.looking and self._greeted:
            self._watch.look_soon()

    def _note_large(self, received: int) -> None:
        """Part of a reply came, and nothing else: if that goes on it is a large one, which others should not stand behind again."""
        before, self._unfinished = self._unfinished, self._unfinished + received
        if self._on_large is not None and before <= self._settings.large_value < self._unfinished:
            command = self._deadlines.oldest()
            if command is not None:
                self._on_large(command)

    def _take_back(self, size: int) -> None:
        self._granted -= 1
        self._granted_bytes -= size

    def _call_waiters(self) -> None:
        """Give a turn to as many as there is room for; to all, once the link is broken or closing: they look for another."""
        gone = self.broken is not None or self.closing
        while self._waiters and (gone or self._has_room()):
            turn, size = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                self._granted += 1
                self._granted_bytes += size
        self.renew_ready()

    def _hear(self, push: Push) -> None:
        changed, names = names_in(push)
        if changed and self._listener is not None:
            self._listener.invalidated(self, names)

    def _unasked(self, refusal: ServerError) -> None:
        """A server that is full or protected speaks before it is asked, and hangs up. Later nobody may."""
        if self._greeted:
            raise ProtocolViolation("a reply arrived that nobody had asked for")
        self._last_words = f"; it had said: {refusal}"

    def _lost(self) -> ConnectionLost:
        error = ConnectionLost(f"connection to {self.address} lost while its reply was awaited: {self.broken}{self._last_words}")
        error.__cause__ = self.broken
        error.waited = self._deadlines.oldest_wait(self.loop.time())
        return error

    def __repr__(self) -> str:
        state = "broken" if self.broken is not None else "ready" if self.ready else "waiting"
        return f"<Link {self.address} {state}, {len(self._slots)} in flight>"
