"""One blocking socket with one command, or one batch, at a time. Whatever interrupts it, also a signal, closes it."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from ..errors import ConnectFailed, ConnectionLost, DeadlineExceeded, ProtocolViolation, ServerError
from .address import Address
from .handshake import Role
from .hurry import DECISION, hurry_of
from .node import Setup
from .resp import PING, Push, Reply, pack
from .session import Batch, Nobody, Session
from .sockets import explained, tune
from .stats import Meter

if TYPE_CHECKING:
    import ssl

    from .tls import Tls

__all__ = ["Connection"]

_CHUNK: Final = 65536
_TRIES: Final = 40  # looks at the socket before sleeping on it, about a microsecond each
_LONGEST_PAUSE: Final = 1024
_FOREVER: Final = 1e8  # seconds: the kernel takes no more than it can count


class _Answer:
    """The slot of the one thread that waits here."""

    __slots__ = ("settled", "value")

    def __init__(self) -> None:
        self.settled = False
        self.value: Reply = None

    def done(self) -> bool:
        return self.settled

    def set_result(self, result: Reply, /) -> None:
        self.value = result
        self.settled = True

    set_exception = set_result


class Connection:
    """A `Session` on a blocking socket. Used by one thread at a time; the pool sees to that.

    The kernel keeps the deadlines (``SO_RCVTIMEO``): Python's own ``settimeout`` would cost a poll for each receive. TLS
    sockets have no other way.
    """

    def __init__(
        self,
        address: Address,
        setup: Setup,
        role: Role,
        meter: Meter,
        patience: float,
        known: Callable[[Connection], None],
        on_push: Callable[[Push | ServerError], None] | None = None,
    ) -> None:
        """Dial and shake hands, within *patience* seconds for each of the two; in between the connection makes itself *known*.

        Raises:
            ConnectFailed: the message names the address and the cause.
        """
        settings = setup.settings
        self.address = address
        self.used_at = time.monotonic()
        self.closed = False
        self._read_timeout = settings.read_timeout
        # So often the kernel lets a thread look at the time.
        self._tick = min(settings.read_timeout, settings.hurry, settings.limit_deadline)
        self._write_timeout = settings.write_timeout
        self._meter = meter
        self._session = Session(on_push, on_push or self._unasked)
        self._pause = 0  # calls that go straight to sleep, after looking did not help
        self._next_pause = 1
        handshake = setup.handshake(role)
        try:
            self._socket = _dial(address, patience, setup.tls)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver takes
            cause = f"no answer within {patience:.3g} s" if isinstance(error, TimeoutError) else explained(error)
            raise ConnectFailed(f"cannot connect to {address}: {cause}{setup.hint(error, address)}") from error
        known(self)
        self._plain = setup.tls is None or address.path is not None
        where = str(address)
        try:
            self._set_timeouts(patience, patience)
            replies = self.call_batch([pack(command) for command in handshake.commands()], patience)
            handshake.check(replies, where, lambda kind, error: setup.reporter.report(kind(error, where)))
            self._set_timeouts(self._tick, settings.write_timeout)
        except (ConnectionLost, DeadlineExceeded, ProtocolViolation) as error:
            self.close()
            raise ConnectFailed(f"cannot connect to {address}: {error}{setup.hint(error, address)}") from error
        except BaseException:
            self.close()
            raise

    def call(self, packed: bytes, limit: float | None = None, *, alone: bool = False) -> Reply:
        """Send one command and return its reply; a refusal is returned as a `ServerError` value.

        *limit* is in seconds (default: the read timeout; a shorter one than the cache's budget is kept no better than that).
        *alone* says that no other thread is at work: then the reply is looked for a few times before sleeping on it.

        Raises:
            ConnectionLost, DeadlineExceeded: the command may have run. The connection is closed.
        """
        answer = _Answer()
        self._session.slots.append(answer)
        self._exchange(packed, answer, self._read_timeout if limit is None else limit, alone)
        return answer.value

    def call_many(self, packed: Sequence[bytes], limit: float) -> list[Reply]:
        """Send several commands in one write, as `call` does one."""
        answer = _Answer()
        self._session.slots.extend([Batch(answer, len(packed))] * len(packed))
        self._exchange(b"".join(packed), answer, limit)
        if isinstance(answer.value, list):
            return answer.value
        raise answer.value

    def call_batch(self, packed: Sequence[bytes], timeout: float | None = None) -> list[Reply]:
        """Send several commands in one write and return their replies, refusals as `ServerError` values.

        *timeout* is for this call alone (default: the read timeout, ``math.inf``: for ever).
        """
        answer = _Answer()
        batch = Batch(answer, len(packed))
        self._session.slots.extend([batch] * len(packed))
        if timeout is not None:
            self._set_timeouts(timeout, self._write_timeout)
        try:
            self._exchange(b"".join(packed), answer, self._read_timeout if timeout is None else timeout)
        except ConnectionLost as error:
            if batch.refusal is None:
                raise
            raise ConnectionLost(f"{error}; it had said: {batch.refusal}") from error
        if timeout is not None:
            self._set_timeouts(self._tick, self._write_timeout)
        if isinstance(answer.value, list):
            return answer.value
        raise answer.value

    def push(self, packed: bytes) -> None:
        """Send a command whose answer is no reply but pushes."""
        self._socket.sendall(packed)

    def listen(self, timeout: float | None) -> bool:
        """Receive for a session of pushes; return whether anything came within *timeout* seconds, or raise `ConnectionLost`."""
        try:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            held = 0 if self._plain else cast("ssl.SSLSocket", self._socket).pending()
            if not held and not poll.poll(None if timeout is None else timeout * 1000):
                return False
            self._take_in(self._socket.recv(_CHUNK))
        except (OSError, ValueError, ProtocolViolation) as error:  # ValueError: another thread has closed it
            self.close()
            raise ConnectionLost(f"connection to {self.address} lost: {error}") from error
        return True

    def idle_for(self, now: float) -> float:
        """Return for how many seconds nobody has used the connection."""
        return now - self.used_at

    def healthy(self) -> bool:
        """Whether the idle socket is open and silent. Anything readable on it is an end or a reply to nobody."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def ask_for_life(self) -> None:
        """Send a PING whose reply nobody waits for, on a connection that is listened to."""
        self._session.slots.append(Nobody())
        self._socket.sendall(PING)

    @property
    def owes(self) -> bool:
        """Whether a reply is awaited."""
        return bool(self._session.slots)

    def abort(self) -> None:
        """End the connection under the thread that waits on it; that thread closes it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; safe to call again."""
        self.closed = True
        with suppress(OSError):
            self._socket.close()

    def _exchange(self, packed: bytes, answer: _Answer, limit: float, alone: bool = False) -> None:
        session = self._session
        began = time.monotonic()
        try:
            if len(packed) <= _CHUNK:
                self._socket.sendall(packed)
            elif self._plain:
                self._send_and_listen(packed)
            else:
                self._send_and_listen_sealed(packed)
            if not answer.settled:
                self._take_in((alone and self._plain and self._look(packed)) or self._receive(began + limit))
                if not answer.settled:
                    self._receive_rest(answer, limit)
            if not session.quiet:
                raise ProtocolViolation("part of a reply arrived that nobody had asked for")
            self._meter.bytes_sent += len(packed)
        except (BlockingIOError, TimeoutError) as error:
            self.close()
            raise DeadlineExceeded(f"{self.address} did not answer in time") from error
        except (OSError, ProtocolViolation) as error:
            self.close()
            raise ConnectionLost(f"connection to {self.address} lost while its reply was awaited: {error}") from error
        except BaseException:
            self.close()
            raise

    def _send_and_listen(self, packed: bytes) -> None:
        """Send much, and read meanwhile: a server that cannot get rid of its replies may stop taking commands."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLOUT)
        left = memoryview(packed)
        while left:
            events = poll.poll(self._write_timeout * 1000)
            if not events:
                raise TimeoutError(f"{self.address} took no bytes for {self._write_timeout:g} s")
            if events[0][1] & ~select.POLLOUT:
                self._take_in(self._socket.recv(_CHUNK, socket.MSG_DONTWAIT))
            if events[0][1] & select.POLLOUT:
                left = left[self._socket.send(left, socket.MSG_DONTWAIT) :]

    def _send_and_listen_sealed(self, packed: bytes) -> None:
        """The same over TLS, which may want to read before it can write, and the other way round."""
        from ssl import SSLWantReadError, SSLWantWriteError

        usual = self._socket.gettimeout()
        poll = select.poll()
        left = memoryview(packed)
        self._socket.settimeout(0)
        try:
            while left:
                wanted = select.POLLIN
                try:
                    left = left[self._socket.send(left[:_CHUNK]) :]
                    wanted |= select.POLLOUT
                except SSLWantWriteError:
                    wanted |= select.POLLOUT
                except SSLWantReadError:
                    pass
                with suppress(SSLWantReadError, SSLWantWriteError):
                    self._take_in(self._socket.recv(_CHUNK))
                    continue
                poll.register(self._socket, wanted)
                if left and not poll.poll(self._write_timeout * 1000):
                    raise TimeoutError(f"{self.address} took no bytes for {self._write_timeout:g} s")
        finally:
            self._socket.settimeout(usual)

    def _look(self, packed: bytes) -> bytes:
        """Return what arrives within some forty microseconds, or thrice that for a script that decides; or nothing.

        A server on the same machine answers sooner than a sleeping thread wakes. Where looking does not help (a server
        far away, no core to spare), it is left out for twice as many calls each time, up to a thousand.
        """
        if self._pause:
            self._pause -= 1
            return b""
        receive = self._socket.recv
        for _ in range(_TRIES if hurry_of(packed) != DECISION else 3 * _TRIES):
            try:
                data = receive(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            self._next_pause = 1
            return data or self._ended()
        self._pause = self._next_pause
        self._next_pause = min(self._next_pause * 2, _LONGEST_PAUSE)
        return b""

    def _receive(self, until: float) -> bytes:
        while True:
            try:
                return self._socket.recv(_CHUNK)
            except (BlockingIOError, TimeoutError):
                if time.monotonic() >= until - 0.001:  # the kernel's clock is coarser than ours
                    raise

    def _receive_rest(self, answer: _Answer, limit: float) -> None:
        until = time.monotonic() + limit
        while not answer.settled:
            if time.monotonic() > until:
                raise TimeoutError("the reply trickles in too slowly")
            self._take_in(self._receive(until))

    def _take_in(self, data: bytes) -> None:
        """Settle what *data* answers; no data is the end of the connection."""
        self._session.receive(data or self._ended())
        self._meter.bytes_received += len(data)

    def _unasked(self, refusal: ServerError) -> None:
        """A server that is full or protected speaks before it is asked, and hangs up. Later nobody may."""
        raise ProtocolViolation(f"it said, unasked: {refusal}")

    def _ended(self) -> bytes:
        raise ConnectionResetError("the server closed the connection")

    def _set_timeouts(self, read: float, write: float) -> None:
        if not self._plain:
            self._socket.settimeout(None if read > _FOREVER else read)  # it has one for both directions
            return
        for option, seconds in ((socket.SO_RCVTIMEO, read), (socket.SO_SNDTIMEO, write)):
            whole, fraction = (0, 0) if seconds > _FOREVER else divmod(max(seconds, 0.001), 1)  # zero means for ever
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(whole), int(fraction * 1_000_000)))

    def __repr__(self) -> str:
        return f"<Connection {self.address} {'closed' if self.closed else 'open'}>"


def _dial(address: Address, timeout: float, tls: Tls | None) -> socket.socket:
    if address.path is None:
        sock = socket.create_connection((address.host, address.port), timeout)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
    try:
        if address.path is not None:
            sock.connect(address.path)
        tune(sock)
        if tls is not None and address.path is None:
            return tls.context().wrap_socket(sock, server_hostname=tls.server_name(address.host))
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock
