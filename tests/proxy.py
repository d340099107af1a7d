"""A TCP proxy that breaks things on purpose, between a client and a real server, in a thread and on a loop of its own.

Bytes are late, cut, split or altered as the fault says, and ``struck`` counts how often. As with TCP itself no connection lives
on after it lost bytes: whatever a fault swallowed, its connection is cut when the fault ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import hiredis

from forebay.wire.address import Address

__all__ = ["Corrupt", "Cut", "Delay", "Dribble", "Drop", "Fault", "Proxy", "Refuse", "Stall", "proxy_to"]

T = TypeVar("T")

_CHUNK = 65536
_NOT_ENOUGH = object()


class Chunk(NamedTuple):
    """Bytes on their way. *begins* says that they begin with the first byte of a command or a reply."""

    data: bytes
    to_client: bool
    begins: bool


class Fault:
    """What happens to the bytes of both directions; by itself nothing."""

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        """Pass *chunk* on, or whatever becomes of it; `ConnectionAbortedError` ends the connection."""
        await pair.deliver(chunk)


@dataclass(frozen=True)
class Delay(Fault):
    """Bytes arrive so many seconds late; what is under way when the fault ends arrives then."""

    to_client: float = 0.0
    to_server: float = 0.0

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        seconds = self.to_client if chunk.to_client else self.to_server
        if seconds:
            pair.proxy.strike()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pair.proxy.over.wait(), seconds)
        await pair.deliver(chunk)


@dataclass(frozen=True)
class Cut(Fault):
    """The connection is closed after the first *after* bytes of every *every*-th read that begins a reply."""

    after: int = 2
    every: int = 1

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        if chunk.to_client and chunk.begins and pair.proxy.turn(self.every):
            pair.proxy.strike()
            await pair.deliver(chunk._replace(data=chunk.data[: self.after]))
            raise ConnectionAbortedError
        await pair.deliver(chunk)


@dataclass(frozen=True)
class Corrupt(Fault):
    """The type byte of a reply becomes one that RESP does not know, in every *every*-th read that begins a reply."""

    every: int = 1

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        if chunk.to_client and chunk.begins and pair.proxy.turn(self.every):
            pair.proxy.strike()
            chunk = chunk._replace(data=b"?" + chunk.data[1:])
        await pair.deliver(chunk)


@dataclass(frozen=True)
class Dribble(Fault):
    """Both directions arrive in up to *pieces* pieces, split at arbitrary places."""

    pieces: int = 8

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        data, size = chunk.data, len(chunk.data)
        places = pair.proxy.random.sample(range(1, size), min(self.pieces, size) - 1)
        for begin, end in zip([0, *sorted(places)], [*sorted(places), size], strict=True):
            await pair.deliver(chunk._replace(data=data[begin:end]))
            if end < size:
                pair.proxy.strike()
                await asyncio.sleep(0.001)  # without a pause the kernel would join the pieces again


@dataclass(frozen=True)
class Drop(Fault):
    """Bytes of one direction vanish, or of both."""

    to_client: bool = False
    to_server: bool = False

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        if self.to_client if chunk.to_client else self.to_server:
            pair.lossy = True
            pair.proxy.strike()
        else:
            await pair.deliver(chunk)


@dataclass(frozen=True)
class Refuse(Fault):
    """Nobody listens on the port, and the connections that were there are closed."""


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing moves, and nothing is lost: it arrives when the fault ends."""

    async def carry(self, pair: Pair, chunk: Chunk) -> None:
        pair.proxy.strike()
        await pair.proxy.over.wait()
        await pair.deliver(chunk)


class Frames:
    """How many commands, or replies, one direction has carried, and whether the last one is whole."""

    def __init__(self) -> None:
        self.count = 0
        self.whole = True
        self._reader = hiredis.Reader(notEnoughData=_NOT_ENOUGH)

    def feed(self, data: bytes) -> None:
        self._reader.feed(data)
        self.whole = False
        while not self.whole and (frame := self._reader.gets()) is not _NOT_ENOUGH:
            self.count += not isinstance(frame, hiredis.PushNotification)
            # asked right after a whole frame: within one the parser may have taken all bytes, and be waiting for more
            self.whole = not self._reader.has_data()


class Pair:
    """A client's connection, and the connection to the server that was opened for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.commands = Frames()
        self.replies = Frames()
        self.lossy = False  # bytes of it were swallowed

    @property
    def idle(self) -> bool:
        """Whether commands were carried, and each of them and of their replies completely."""
        return self.commands.whole and self.replies.whole and 0 < self.commands.count == self.replies.count

    async def deliver(self, chunk: Chunk) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client if chunk.to_client else self.server, chunk.data)

    async def pump(self, *, to_client: bool) -> None:
        """Carry one direction until it ends."""
        source, frames = (self.server, self.replies) if to_client else (self.client, self.commands)
        while data := await asyncio.get_running_loop().sock_recv(source, _CHUNK):
            chunk = Chunk(data, to_client, frames.whole)
            frames.feed(data)
            await self.proxy.fault.carry(self, chunk)


class Proxy:
    """Listens on 127.0.0.1:``port``. Set ``fault`` from any thread: it holds when the assignment is done. See `proxy_to`."""

    def __init__(self, server: Address) -> None:
        self.accepted = 0  # connections since the start
        self.connections = 0  # clients' connections that are open now
        self.struck = 0  # how often the fault did something, since it was set
        self.over = asyncio.Event()  # set when the fault of now has ended
        self.random = random.Random(0)
        self._server = server
        self._fault = Fault()
        self._candidates = 0
        self._pairs: dict[asyncio.Task[None], Pair | None] = {}
        self._listener: socket.socket | None = None
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        # Bound and never listening: it keeps the port ours while the listener is closed.
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.fault = Fault()

    @property
    def fault(self) -> Fault:
        """What happens to bytes now; a plain `Fault` is none."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._run(self._become(fault))

    def heal(self) -> None:
        """End every fault. Connections that lost bytes are cut; on all others what was held back arrives."""
        self.fault = Fault()

    def inject(self, data: bytes) -> int:
        """Send *data* to the client of every idle connection, and return how many there were."""
        return self._run(self._inject(data))

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Wait for *condition*, which looks at counts of this proxy, and return whether it came true in time."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def close(self) -> None:
        """Close every socket, and end the thread."""
        self._run(self._become(Refuse()))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        assert not self._thread.is_alive()
        self._loop.close()
        self._reserved.close()
        if self._failure is not None:
            raise self._failure

    # what faults use, on the proxy's own loop

    def strike(self) -> None:
        """Count that the fault did something."""
        with self._changed:
            self.struck += 1
            self._changed.notify_all()

    def turn(self, every: int) -> bool:
        """Whether this candidate is one of each *every* that the fault strikes."""
        self._candidates += 1
        return self._candidates % every == 0

    # internals

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(10)

    async def _become(self, fault: Fault) -> None:
        refuses = isinstance(fault, Refuse)
        if refuses and self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self._fault = fault
        cut = [task for task, pair in self._pairs.items() if refuses or (pair is not None and pair.lossy)]
        await _ended(cut)
        self._candidates, self.struck = 0, len(cut) if refuses else 0
        self.over.set()
        self.over = asyncio.Event()
        if not refuses and self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(512)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = listener.accept()
            self._count(1)
            task = self._loop.create_task(self._serve(client))
            self._pairs[task] = None
            task.add_done_callback(lambda ended: self._served(ended, client))

    async def _serve(self, client: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        with socket.socket() as server, contextlib.suppress(OSError):
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(server, (self._server.host, self._server.port))
            pair = self._pairs[task] = Pair(self, client, server)
            pumps = [self._loop.create_task(pair.pump(to_client=to_client)) for to_client in (True, False)]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _ended(pumps)

    def _served(self, task: asyncio.Task[None], client: socket.socket) -> None:
        client.close()
        if not task.cancelled():
            self._failure = self._failure or task.exception()
        del self._pairs[task]
        self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self.connections += change
            self.accepted += change > 0
            self._changed.notify_all()

    async def _inject(self, data: bytes) -> int:
        idle = [pair for pair in self._pairs.values() if pair is not None and pair.idle]
        for pair in idle:
            await pair.deliver(Chunk(data, to_client=True, begins=True))
        return len(idle)

    def __repr__(self) -> str:
        return f"<Proxy {self.port}, {self._fault}, {self.connections} connections>"


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    one.setblocking(False)
    return one


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel *tasks* and wait; what they met on their sockets has been dealt with by closing these, all else is raised."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if outcome is not None and not isinstance(outcome, OSError | asyncio.CancelledError):
            raise outcome


@contextlib.contextmanager
def proxy_to(server: Address) -> Iterator[Proxy]:
    """Open a proxy to *server*, and close it with all of its connections at the end."""
    proxy = Proxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
