"""A switch between bays and their server: while a block lasts the server is away, slow or hung, as the clients see it.

It is a proxy on loopback, in one thread of this process. Nothing is lost but by `Outage.away`: what was sent arrives, late.
"""

from __future__ import annotations

import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from ..bay import AsyncForebay, Forebay
from ..durations import Duration, to_seconds
from ..errors import ForebayError, SettingsError
from ..settings import Settings

__all__ = ["Outage"]

B = TypeVar("B", AsyncForebay, Forebay)

_CHUNK: Final = 65536
_MOST_HELD: Final = 1024 * 1024  # bytes of one direction, above which the sender is made to wait
_PATIENCE: Final = 10.0  # seconds


class _Way:
    """Bytes under way to one socket, each with the time when they are due."""

    def __init__(self, source: socket.socket, target: socket.socket, *, replies: bool) -> None:
        self.source = source
        self.target = target
        self.replies = replies
        self.held: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.ended = False  # the source sends no more

    def take(self, due: float) -> None:
        """Read what has come; raise `OSError` if the source was torn."""
        data = self.source.recv(_CHUNK)
        self.ended = not data
        if data:
            self.held.append((due, data))
            self.size += len(data)

    def give(self, now: float) -> None:
        """Send what is due, as far as the target takes it; raise `OSError` if that was torn."""
        while self.held and self.held[0][0] <= now:
            due, data = self.held.popleft()
            try:
                sent = self.target.send(data)
            except BlockingIOError:
                sent = 0
            self.size -= sent
            if sent < len(data):
                self.held.appendleft((due, data[sent:]))
                return

    def let_go(self) -> None:
        """Let everything that is held be due."""
        self.held = deque((0.0, data) for _, data in self.held)


class Outage:
    """Stands before the single server of *url* (TCP, no TLS), and is reached by its own ``url``. Close it, or use ``with``.

    Raises:
        SettingsError: the URL names something else.
    """

    def __init__(self, url: str) -> None:
        settings, parts = Settings.from_url(url), urlsplit(url)
        if settings.topology != "standalone" or settings.tls or settings.path is not None:
            raise SettingsError(
                f"an Outage stands before a single server on TCP without TLS, as in redis://host:6379/0, not {settings.where}"
            )
        self._server = settings.hosts[0]
        self._reserved = _bound(0)  # never listens: it keeps the port ours while the listener is closed
        port = self._reserved.getsockname()[1]
        user = parts.netloc.rpartition("@")[0]
        self.url = parts._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}").geturl()
        self._bays: list[AsyncForebay | Forebay] = []
        self._state = "there"
        self._delay = 0.0
        self._wanted = self._state, self._delay
        self._pairs: list[tuple[_Way, _Way]] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.settimeout(0)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="forebay-outage", daemon=True)
        self._listen()
        self._thread.start()

    def add(self, bay: B) -> B:
        """Tell *bay* at the end of each block that the server is back, and return it. Others find out within half a second."""
        self._bays.append(bay)
        return bay

    @contextmanager
    def away(self) -> Iterator[None]:
        """Close every connection, and refuse new ones, as where no server is."""
        yield from self._during("away")

    @contextmanager
    def slow(self, by: Duration) -> Iterator[None]:
        """Let replies arrive so much later.

        Raises:
            InvalidDuration: *by* is no duration.
        """
        yield from self._during("slow", to_seconds(by))

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let connections be made, and nobody answer. What was sent is answered at the end."""
        yield from self._during("hung")

    def close(self) -> None:
        """Close every connection, and take no more. Safe to call again."""
        if self._thread.is_alive():
            self._become("closed", 0.0)
            self._thread.join(_PATIENCE)
        self._wake.close()
        self._reserved.close()
        self._bays.clear()

    def _during(self, state: str, delay: float = 0.0) -> Iterator[None]:
        before = self._wanted
        self._become(state, delay)
        try:
            yield
        finally:
            self._become(*before)
            if before[0] == "there":
                for bay in self._bays:
                    _well_again(bay)

    def _become(self, state: str, delay: float) -> None:
        """Change, and return when the change holds."""
        self._wanted = state, delay
        self._wake.send(b"!")
        with self._changed:
            held = self._changed.wait_for(lambda: (self._state, self._delay) == (state, delay) or self._failure is not None, _PATIENCE)
        if not held or self._failure is not None:
            raise ForebayError(f"{self!r} does not work any more") from self._failure

    # the thread

    def _run(self) -> None:
        try:
            while self._state != "closed":
                self._turn()
        except BaseException as error:  # noqa: BLE001 - whoever turns the switch next is told
            self._failure = error
        finally:
            for pair in list(self._pairs):
                self._cut(pair)
            self._unlisten()
            self._selector.close()
            self._woken.close()
            with self._changed:
                self._changed.notify_all()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._until_due()):
            if key.fileobj is self._woken:
                self._woken.recv(_CHUNK)
                self._change(*self._wanted)
            elif key.fileobj is self._listener:
                self._accept(self._listener)
            elif key.data in self._pairs:  # else it was cut by this very turn
                self._read(key.data, key.fileobj)
        for pair in list(self._pairs):
            self._pass_on(pair)

    def _until_due(self) -> float | None:
        due = min((way.held[0][0] for pair in self._pairs for way in pair if way.held), default=math.inf)
        return None if due == math.inf else max(0.001, due - time.monotonic())  # a target that takes nothing is asked again

    def _change(self, state: str, delay: float) -> None:
        if state in ("away", "closed"):
            self._unlisten()
            for pair in list(self._pairs):
                self._cut(pair)
        elif self._listener is None:
            self._listen()
        if state != "hung":
            for pair in self._pairs:
                for way in pair:
                    way.let_go()
        with self._changed:
            self._state, self._delay = state, delay
            self._changed.notify_all()

    def _listen(self) -> None:
        self._listener = _bound(self._reserved.getsockname()[1])
        self._listener.listen(512)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it went before it was taken
            return
        try:
            server = socket.create_connection(self._server, _PATIENCE)
        except OSError:
            client.close()
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(0)
        pair = _Way(client, server, replies=False), _Way(server, client, replies=True)
        self._pairs.append(pair)
        for way in pair:
            self._selector.register(way.source, selectors.EVENT_READ, pair)

    def _read(self, pair: tuple[_Way, _Way], source: Any) -> None:
        way = pair[0] if pair[0].source is source else pair[1]
        due = math.inf if self._state == "hung" else time.monotonic() + self._delay if way.replies else 0.0
        try:
            way.take(due)
        except BlockingIOError:
            return
        except OSError:
            self._cut(pair)
            return
        if way.ended or way.size > _MOST_HELD:
            self._selector.unregister(source)

    def _pass_on(self, pair: tuple[_Way, _Way]) -> None:
        now = time.monotonic()
        try:
            for way in pair:
                full = way.size > _MOST_HELD
                way.give(now)
                if full and way.size <= _MOST_HELD and not way.ended:
                    self._selector.register(way.source, selectors.EVENT_READ, pair)
        except OSError:
            self._cut(pair)
            return
        if any(way.ended and not way.held for way in pair):
            self._cut(pair)

    def _cut(self, pair: tuple[_Way, _Way]) -> None:
        self._pairs.remove(pair)
        watched = self._selector.get_map()
        for way in pair:
            if way.source in watched:
                self._selector.unregister(way.source)
            way.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        slow = f" by {self._delay:g} s" if self._state == "slow" else ""
        return f"<Outage before {self._server[0]}:{self._server[1]}, which is {self._state}{slow}>"


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    one.settimeout(0)
    return one


def _well_again(bay: AsyncForebay | Forebay) -> None:
    """Spare *bay* the moments for which it leaves a server alone that failed."""
    for node in bay.port.route._nodes():  # noqa: SLF001 - users have no need for them
        node.breaker.succeeded()
        for link in list(getattr(node, "_links", {}).values()):
            link.renew_ready()
