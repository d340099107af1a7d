"""One blocking socket with one command, or one batch, at a time. Whatever interrupts it, also a signal, closes it."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ..errors import ConnectFailed, ConnectionLost, DeadlineExceeded, ProtocolViolation, ServerError
from ..settings import Settings
from .address import Address
from .handshake import check, greeting
from .resp import Reply, pack
from .session import Batch, Session

__all__ = ["Connection"]

_CHUNK: Final = 65536
_TRIES: Final = 40  # looks at the socket before sleeping on it, about a microsecond each
_LONGEST_PAUSE: Final = 1024


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

    The kernel keeps the deadlines (``SO_RCVTIMEO``): Python's own ``settimeout`` would cost a poll for each receive.
    """

    def __init__(self, address: Address, settings: Settings, unnamed: Callable[[ServerError], None]) -> None:
        """Dial and shake hands.

        Raises:
            ConnectFailed: the message names the address and the cause.
        """
        self.address = address
        self.used_at = time.monotonic()
        self.closed = False
        self._read_timeout = settings.read_timeout
        self._session = Session()
        self._pause = 0  # calls that go straight to sleep, after looking did not help
        self._next_pause = 1
        try:
            self._socket = _dial(address, settings.dial_timeout)
        except OSError as error:
            cause = f"no answer within {settings.dial_timeout:g} s" if isinstance(error, TimeoutError) else str(error)
            raise ConnectFailed(f"cannot connect to {address}: {cause}") from error
        try:
            self._set_timeouts(settings.dial_timeout, settings.dial_timeout)
            commands = greeting(settings)
            check(self.call_batch([pack(command) for command in commands]), settings, str(address), unnamed)
            self._set_timeouts(settings.read_timeout, settings.write_timeout)
        except (ConnectionLost, DeadlineExceeded, ProtocolViolation) as error:
            self.close()
            raise ConnectFailed(f"cannot connect to {address}: {error}") from error
        except BaseException:
            self.close()
            raise

    def call(self, packed: bytes, *, alone: bool = False) -> Reply:
        """Send one command and return its reply; a refusal is returned as a `ServerError` value.

        *alone* says that no other thread is at work: then the reply is looked for a few times before sleeping on it.

        Raises:
            ConnectionLost, DeadlineExceeded: the command may have run. The connection is closed.
        """
        answer = _Answer()
        self._session.slots.append(answer)
        self._exchange(packed, answer, alone)
        return answer.value

    def call_batch(self, packed: list[bytes]) -> list[Reply]:
        """Send several commands in one write and return their replies, refusals as `ServerError` values."""
        answer = _Answer()
        self._session.slots.extend([Batch(answer, len(packed))] * len(packed))
        self._exchange(b"".join(packed), answer)
        if isinstance(answer.value, list):
            return answer.value
        raise answer.value

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

    def close(self) -> None:
        """Close the socket; safe to call again."""
        self.closed = True
        with suppress(OSError):
            self._socket.close()

    def _exchange(self, packed: bytes, answer: _Answer, alone: bool = False) -> None:
        session = self._session
        try:
            self._socket.sendall(packed)
            session.receive((alone and self._look()) or self._socket.recv(_CHUNK) or self._ended())
            if not answer.settled:
                self._receive_rest(answer)
            if not session.quiet:
                raise ProtocolViolation("part of a reply arrived that nobody had asked for")
        except BlockingIOError as error:
            self.close()
            raise DeadlineExceeded(f"{self.address} did not answer in time") from error
        except (OSError, ProtocolViolation) as error:
            self.close()
            raise ConnectionLost(f"connection to {self.address} lost while its reply was awaited: {error}") from error
        except BaseException:
            self.close()
            raise

    def _look(self) -> bytes:
        """Return what arrives within some forty microseconds, or nothing.

        A server on the same machine answers sooner than a sleeping thread wakes. Where looking does not help (a server
        far away, no core to spare), it is left out for twice as many calls each time, up to a thousand.
        """
        if self._pause:
            self._pause -= 1
            return b""
        receive = self._socket.recv
        for _ in range(_TRIES):
            try:
                data = receive(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            self._next_pause = 1
            return data or self._ended()
        self._pause = self._next_pause
        self._next_pause = min(self._next_pause * 2, _LONGEST_PAUSE)
        return b""

    def _receive_rest(self, answer: _Answer) -> None:
        limit = time.monotonic() + self._read_timeout
        while not answer.settled:
            if time.monotonic() > limit:
                raise BlockingIOError("the reply trickles in too slowly")
            self._session.receive(self._socket.recv(_CHUNK) or self._ended())

    def _ended(self) -> bytes:
        raise ConnectionResetError("the server closed the connection")

    def _set_timeouts(self, read: float, write: float) -> None:
        for option, seconds in ((socket.SO_RCVTIMEO, read), (socket.SO_SNDTIMEO, write)):
            whole, fraction = divmod(max(seconds, 0.001), 1)
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(whole), int(fraction * 1_000_000)))

    def __repr__(self) -> str:
        return f"<Connection {self.address} {'closed' if self.closed else 'open'}>"


def _dial(address: Address, timeout: float) -> socket.socket:
    if address.path is None:
        sock = socket.create_connection((address.host, address.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
    sock.settimeout(None)
    return sock
