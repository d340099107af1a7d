"""threads: a bounded pool of blocking sockets. The last one used is the next one taken; who finds none waits, up to a deadline.

Small commands of many threads share a few of the sockets (see `Combiner`); what may take long, or is large, has one of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import Closed, Overloaded, ServerError
from ..events import ConnectionDropped, NameRefused, Reporter
from ..forks import renew_after_fork
from ..settings import Settings
from .address import Address
from .combiner import Combiner
from .connection import Connection
from .resp import Arg, Reply, pack
from .stats import WireStats

__all__ = ["Pool"]

_PROBE_AFTER: Final = 0.01  # a socket idle for longer is looked at before it is used
_TURNS: Final = 4  # sockets that small commands share: with more, threads spend their time handing over the interpreter lock
_LARGE: Final = 16 * 1024
_SLOW: Final = frozenset(
    variant
    for name in (
        "BLPOP",
        "BRPOP",
        "BLMOVE",
        "BRPOPLPUSH",
        "BLMPOP",
        "BZPOPMIN",
        "BZPOPMAX",
        "BZMPOP",
        "XREAD",
        "XREADGROUP",
        "WAIT",
        "WAITAOF",
    )
    for variant in (name, name.lower(), name.encode(), name.lower().encode())
)
_SPARE_FOR: Final = 300.0  # an idle socket above min_idle is closed after so many seconds


class Pool:
    """At most ``pool_size`` sockets, ``min_idle`` of them opened by `connect` and kept."""

    def __init__(self, settings: Settings, locate: Callable[[], Address], reporter: Reporter) -> None:
        self._settings = settings
        self._locate = locate
        self._reporter = reporter
        self._closed = False
        self._dialled = 0
        self._dropped = 0
        self._idle: list[Connection] = []  # list.pop and list.append are atomic: the fast path takes no lock
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with no socket: at the start, and in a forked child, where those of the parent are closed but not shut down."""
        for connection in self._idle:
            connection.close()
        self._idle = []
        self._changed = threading.Condition()
        self._waiting = 0
        self._open = 0
        self._combiner = Combiner(self._one, self._many, min(_TURNS, self._settings.pool_size), self._settings.read_timeout)

    def execute(self, *args: Arg) -> Reply:
        """Send one command and return its reply.

        Raises:
            InvalidCommand: an argument cannot be sent.
            Unavailable: see its subclasses for what happened.
            ServerError: the server refused.
        """
        packed = pack(args)
        alone = len(packed) > _LARGE or (isinstance(args[0], str | bytes) and args[0] in _SLOW)
        reply = self._one(packed) if alone else self._combiner.call(packed)
        if isinstance(reply, ServerError):
            raise reply
        return reply

    def execute_many(self, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        """Send several commands in one write; refusals by the server stand in the list as `ServerError` values."""
        packed = [pack(command) for command in commands]
        return self._many(packed) if packed else []

    def connect(self) -> None:
        """Open sockets until ``min_idle`` (at least one) are there, or raise `ConnectFailed`."""
        taken: list[Connection] = []
        try:
            while len(taken) < max(1, self._settings.min_idle):
                taken.append(self._take())
        finally:
            for connection in taken:
                self._give_back(connection)

    def close(self) -> None:
        """Close idle sockets now, and each busy one when its command is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while self._idle:
            self._retire(self._idle.pop())

    def stats(self) -> WireStats:
        """Return counts of sockets and of commands in flight."""
        with self._changed:
            idle = len(self._idle)
            return WireStats(connections=self._open, idle=idle, in_flight=self._open - idle, dialled=self._dialled, dropped=self._dropped)

    def _one(self, packed: bytes) -> Reply:
        connection = self._take()
        try:
            reply = connection.call(packed, alone=self._open - len(self._idle) == 1)
        except BaseException as error:
            self._discard(connection, error)
            raise
        self._give_back(connection)
        return reply

    def _many(self, packed: list[bytes]) -> list[Reply]:
        connection = self._take()
        try:
            replies = connection.call_batch(packed)
        except BaseException as error:
            self._discard(connection, error)
            raise
        self._give_back(connection)
        return replies

    def _take(self) -> Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._open_or_wait()
            if self._closed:
                self._retire(connection)
                raise Closed("this bay is closed; open a new one")
            if connection.idle_for(time.monotonic()) < _PROBE_AFTER or connection.healthy():
                return connection
            self._discard(connection, ConnectionResetError("the idle connection was closed, or brought a reply to nobody"))

    def _open_or_wait(self) -> Connection:
        patience = self._settings.read_timeout
        limit = time.monotonic() + patience
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    if self._closed:
                        raise Closed("this bay is closed; open a new one")
                    if self._idle:
                        try:
                            return self._idle.pop()
                        except IndexError:  # a thread on the fast path was quicker
                            continue
                    if self._open < self._settings.pool_size:
                        self._open += 1
                        break
                    if not self._changed.wait(limit - time.monotonic()):
                        raise Overloaded(
                            f"all {self._settings.pool_size} connections to {self._settings.where} were busy for {patience:g} s; "
                            "raise REDIS_POOL_SIZE or call from fewer threads"
                        )
            finally:
                self._waiting -= 1
        return self._dial()

    def _dial(self) -> Connection:
        try:
            address = self._locate()
            where = str(address)
            connection = Connection(address, self._settings, lambda error: self._reporter.report(NameRefused(error, where)))
        except BaseException:
            self._one_less()
            raise
        with self._changed:
            self._dialled += 1
        return connection

    def _give_back(self, connection: Connection) -> None:
        now = connection.used_at = time.monotonic()
        self._idle.append(connection)
        if self._waiting:
            with self._changed:
                self._changed.notify()
        if self._closed or (len(self._idle) > self._settings.min_idle and self._idle_too_long(now)):
            self._thin_out(now)

    def _idle_too_long(self, now: float) -> bool:
        try:
            return self._idle[0].idle_for(now) > _SPARE_FOR
        except IndexError:
            return False

    def _thin_out(self, now: float) -> None:
        with self._changed:
            keep = 0 if self._closed else self._settings.min_idle
            while len(self._idle) > keep and (self._closed or self._idle_too_long(now)):
                try:
                    connection = self._idle.pop(0)
                except IndexError:
                    return
                connection.close()
                self._open -= 1

    def _discard(self, connection: Connection, cause: BaseException) -> None:
        with self._changed:
            self._dropped += 1
        self._retire(connection)
        self._reporter.report(ConnectionDropped(cause, str(connection.address)))

    def _retire(self, connection: Connection) -> None:
        connection.close()
        self._one_less()

    def _one_less(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def __repr__(self) -> str:
        return f"<Pool {self._settings.where}, {self._open} of {self._settings.pool_size} open>"
