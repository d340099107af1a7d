"""threads: a bounded pool of blocking sockets. The last one used is the next one taken; who finds none waits, up to a deadline.

Small commands of many threads share a few of the sockets (see `Combiner`); what may take long, or is large, has one of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from weakref import WeakSet, finalize

from ..errors import ConnectFailed, DeadlineExceeded, Overloaded, ServerError, Unavailable
from ..events import ConnectionDropped
from ..forks import renew_after_fork
from .address import Address
from .combiner import Combiner
from .connection import Connection
from .gatherable import Gatherable
from .handshake import Role
from .hurry import DECISION, HURRIES, PATIENT, hurry_of, patience_of
from .latency import name_in
from .listening import BlockingStream
from .merging import Merger, Piece
from .node import Setup
from .node_base import PROBE_TIMEOUT, NodeBase
from .resp import PING, Push, Reply
from .stats import NodeStats

__all__ = ["Pool"]

_PROBE_AFTER: Final = 0.01  # a socket idle for longer is looked at before it is used
_TURNS: Final = 4  # sockets that small commands share: with more, threads spend their time handing over the interpreter lock
_LARGE: Final = 16 * 1024  # has a socket of its own, for the others would wait for the bytes
_LONG_WAIT: Final = 0.02  # seconds for a free socket, from which on they count
_SPARE_FOR: Final = 300.0  # an idle socket above min_idle is closed after so many seconds


class Pool(NodeBase):
    """At most ``pool_size`` sockets, ``min_idle`` of them opened by `connect` and kept."""

    def __init__(self, address: Address, role: Role, setup: Setup) -> None:
        super().__init__(address, role, setup)
        self._every: WeakSet[Connection] = WeakSet()  # whether it is of the pool, is being opened, or is listened to
        finalize(self, _close_all, self._every)  # a bay that nobody closes leaves no socket to the collector
        self._idle: list[Connection] = []  # list.pop and list.append are atomic: the fast path takes no lock
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with no socket: at the start, and in a forked child, where those of the parent are closed but not shut down."""
        _close_all(self._every)
        self._every.clear()
        self._idle.clear()
        self._changed = threading.Condition()
        self._waiting = 0
        self._open = 0
        turns = min(_TURNS, self._settings.pool_size)
        # By hurry, apart, so that nobody else is torn away with those who have less time.
        self._patience = {hurry: patience_of(hurry, self._settings) for hurry in (PATIENT, *HURRIES)}
        self._combiners = {PATIENT: Combiner(self._one, self._many, turns, self._patience[PATIENT])}
        for hurry in HURRIES:
            limit = self._patience[hurry]
            self._combiners[hurry] = Combiner(partial(self._one, limit=limit), partial(self._many_soon, limit=limit), turns, limit)
        limit = self._patience[DECISION]
        # One turn: what waits meanwhile goes along in one call, and a script costs the server more to begin than to go on.
        self._merger = Merger(partial(self._one, limit=limit), partial(self._many_soon, limit=limit), 1, limit)

    async def send(self, packed: bytes, timeout: float | None = None) -> Reply:
        """Send one command and return its reply.

        Raises:
            Unavailable: see its subclasses for what happened.
            ServerError: the server refused.
        """
        if timeout is not None:
            reply = self._many([packed], timeout)[0]
        elif len(packed) > _LARGE or packed in self._large:
            reply = self._one(packed, self._patience[hurry_of(packed)])
            if isinstance(reply, bytes | None) and len(reply or b"") <= _LARGE:
                self._large.discard(packed)
        else:
            reply = self._combiners[hurry_of(packed)].call(packed)
            if type(reply) is bytes and len(reply) > _LARGE:
                self._remember_large(packed)
        if isinstance(reply, ServerError):
            raise reply
        return reply

    async def send_many(self, packed: Sequence[bytes], timeout: float | None = None) -> list[Reply]:
        """Send several commands in one write; refusals by the server stand in the list as `ServerError` values."""
        return self._many(packed, timeout)

    send_alone = send_many  # every batch has a socket of its own

    def send_pair(self, first: bytes, second: bytes) -> None:
        """Return nothing: whoever sends waits."""

    def gather(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> Awaitable[Reply]:
        """Add a record to the call that all threads make together who make it now."""
        return self._merger.send(Piece(script, keys, key_count, words, word_count))

    async def send_tracked(self, packed: Sequence[bytes], timeout: float, *, told: bool) -> tuple[list[Reply], None]:  # noqa: ARG002
        """Send reads in one write. A pooled socket is not listened to while it is idle: nothing will be told of changes."""
        return self._many(packed, timeout), None

    async def stream(self, patience: float) -> BlockingStream:
        """Open a connection for pushes, beside the pool."""
        stream = BlockingStream(self._settings.ping_every, self._settings.read_timeout)
        stream.connection = self._connect(patience, stream.take)
        return stream

    async def connect(self) -> None:
        """Open sockets until ``min_idle`` (at least one) are there, or raise `ConnectFailed`."""
        taken: list[Connection] = []
        try:
            while len(taken) < max(1, self._settings.min_idle):
                taken.append(self._take(self._settings.dial_timeout))
        finally:
            for connection in taken:
                self._give_back(connection)

    async def close(self) -> None:
        """Close idle sockets now, and each busy one when its command is done; wait for those, at most the close timeout."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while self._idle:
            self._retire(self._idle.pop())
        with self._changed:
            if not self._changed.wait_for(lambda: self._open == 0, self._settings.close_timeout):
                for connection in list(self._every):
                    connection.abort()
                self._changed.wait_for(lambda: self._open == 0, PROBE_TIMEOUT)

    def stats(self) -> NodeStats:
        """Return counts of sockets and of commands in flight."""
        with self._changed:
            idle, opened = len(self._idle), self._open
        return self._numbers(connections=opened, idle=idle, in_flight=opened - idle)

    def _one(self, packed: bytes, limit: float | None = None) -> Reply:
        asked = time.monotonic()
        patience = self._settings.read_timeout if limit is None else limit
        connection = self._take(patience)
        began = connection.used_at
        try:
            if began - asked > _LONG_WAIT:  # the deadline is for waiting and the reply together
                (reply,) = connection.call_batch([packed], max(0.001, patience - (began - asked)))
            else:
                reply = connection.call(packed, limit, alone=self._open - len(self._idle) == 1)
        except BaseException as error:
            self._discard(connection, error)
            raise
        self._give_back(connection)
        self._setup.latencies.record(name_in(packed), connection.used_at - began)
        return reply

    def _many_soon(self, packed: Sequence[bytes], limit: float) -> list[Reply]:
        connection = self._take(limit)
        began = connection.used_at
        try:
            replies = connection.call_many(packed, limit)
        except BaseException as error:
            self._discard(connection, error)
            raise
        self._give_back(connection)
        self._setup.latencies.record(name_in(packed[0]), connection.used_at - began)
        return replies

    def _many(self, packed: Sequence[bytes], timeout: float | None = None) -> list[Reply]:
        asked = time.monotonic()
        patience = self._settings.read_timeout
        connection = self._take(patience if timeout is None else min(timeout, patience))
        began = connection.used_at
        try:
            if began - asked > _LONG_WAIT:
                limit = patience if timeout is None else timeout
                replies = connection.call_batch(packed, max(0.001, limit - (began - asked)))
            else:
                replies = connection.call_batch(packed, timeout)
        except BaseException as error:
            self._discard(connection, error, own_timeout=timeout is not None)
            raise
        self._give_back(connection)
        self._setup.latencies.record(name_in(packed[0]), connection.used_at - began)
        return replies

    def _take(self, patience: float) -> Connection:
        if not self.breaker.closed:
            self._probe(patience)
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._open_or_wait(patience)
            if self._closed:
                self._retire(connection)
                self._check_open()
            now = time.monotonic()
            idle = connection.idle_for(now)
            if idle < _PROBE_AFTER or (connection.healthy() and (idle < self._settings.ping_every or self._answers(connection))):
                connection.used_at = now
                self._meter.hits += 1
                return connection
            self._discard(connection, ConnectionResetError("the idle connection was closed, or brought a reply to nobody"), idle=True)

    def _answers(self, connection: Connection) -> bool:
        """Ask a connection that was idle for long for a sign of life: its way may have gone without a word."""
        try:
            connection.call_batch([PING], min(PROBE_TIMEOUT, self._settings.read_timeout))
        except Unavailable:
            return False
        return True

    def _probe(self, patience: float) -> None:
        """Find out whether the node is well again, if it is this thread's turn to.

        Raises:
            CircuitOpen: it is not, or another thread is finding out.
        """
        if not self.breaker.admit():
            return
        try:
            while self._idle:  # what was open when the node failed is of no use as a witness
                self._retire(self._idle.pop())
            connection = self._connect(min(PROBE_TIMEOUT, patience))
            connection.close()
        except Unavailable as error:
            self.breaker.probe_failed(error)
            raise self.breaker.refusal() from error
        except BaseException:
            self.breaker.abandoned()
            raise
        self.breaker.succeeded()

    def _open_or_wait(self, patience: float) -> Connection:
        limit = time.monotonic() + patience
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    self._check_open()
                    if self._idle:
                        try:
                            connection = self._idle.pop()
                        except IndexError:  # a thread on the fast path was quicker
                            continue
                        connection.used_at = time.monotonic()
                        return connection
                    if self._open < self._settings.pool_size:
                        self._open += 1
                        break
                    if not self._changed.wait(limit - time.monotonic()):
                        self._meter.timeouts += 1
                        raise Overloaded(
                            f"all {self._settings.pool_size} connections to {self.address} were busy for {patience:g} s, and this "
                            "command was not sent; raise REDIS_POOL_SIZE or call from fewer threads"
                        )
            finally:
                self._waiting -= 1
        return self._dial(limit)

    def _dial(self, limit: float) -> Connection:
        self._meter.misses += 1
        try:
            pause = self.breaker.pause()
            if pause:
                time.sleep(max(0.0, min(pause, limit - time.monotonic())))
            connection = self._connect(limit - time.monotonic())
        except BaseException:
            self._one_less()
            raise
        connection.used_at = time.monotonic()
        return connection

    def _know(self, connection: Connection) -> None:
        with self._changed:
            self._every.add(connection)

    def _connect(self, patience: float, on_push: Callable[[Push | ServerError], None] | None = None) -> Connection:
        patience = max(0.001, min(patience, self._settings.dial_timeout))
        try:
            connection = Connection(self.address, self._setup, self.role, self._meter, patience, self._know, on_push)
        except ConnectFailed as error:
            self.breaker.failed(error)
            raise
        self._connected()
        return connection

    def _give_back(self, connection: Connection) -> None:
        now = connection.used_at = time.monotonic()
        if self.breaker.troubled:
            self.breaker.succeeded()
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
                self._changed.notify_all()

    def _discard(self, connection: Connection, cause: BaseException, *, idle: bool = False, own_timeout: bool = False) -> None:
        with self._changed:
            self._meter.dropped += 1
        self._retire(connection)
        if isinstance(cause, Unavailable) and not idle and not (own_timeout and isinstance(cause, DeadlineExceeded)):
            self.breaker.failed(cause)
        self._setup.reporter.report(ConnectionDropped(cause, str(connection.address)))

    def _retire(self, connection: Connection) -> None:
        connection.close()
        self._one_less()

    def _one_less(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all() if self._closed else self._changed.notify()

    def __repr__(self) -> str:
        return f"<Pool {self.address}, {self._open} of {self._settings.pool_size} open>"


def _close_all(connections: WeakSet[Connection]) -> None:
    for connection in list(connections):
        connection.close()
