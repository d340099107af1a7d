"""One server, as a route sees it: something that takes packed commands, in one of the two colours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ..errors import ConnectionLost, ProtocolViolation
from ..events import Reporter
from ..settings import Settings
from .address import Address
from .credentials import credentials_of, sentinel_credentials_of
from .gatherable import Gatherable
from .handshake import Handshake, Role
from .latency import Latencies
from .resilience import Breaker
from .resp import Push, Reply
from .stats import NodeStats
from .tracking import Listener

if TYPE_CHECKING:
    from .tls import Tls

__all__ = ["Asked", "MakeNode", "Node", "Setup", "Stream"]


class Setup(Struct, frozen=True):
    """What all connections of a bay have in common."""

    settings: Settings
    reporter: Reporter
    latencies: Latencies
    tls: Tls | None
    listener: Listener | None = None

    def handshake(self, role: Role, *, tracks: bool = False) -> Handshake:
        """Return the handshake for a server in *role*, with the password of the moment. It may block, where a function supplies that.

        Raises:
            ConnectFailed: there is no password to be had.
        """
        if role == "sentinel":
            return Handshake(sentinel_credentials_of(self.settings), role=role)
        return Handshake(credentials_of(self.settings), self.settings.db, role, tracks)

    def hint(self, error: BaseException, address: Address) -> str:
        """Return what may be behind *error*, when a connection to *address* could not be opened: TLS on one side alone, mostly."""
        if address.path is not None or getattr(error, "verify_message", None):
            return ""
        if self.tls is None:
            return "; if that port speaks TLS, write rediss://" if isinstance(error, ConnectionLost | ProtocolViolation) else ""
        if isinstance(error, TimeoutError):
            return "; TLS was tried: if that port speaks none, write redis://"
        if self.settings.tls_cert is None and isinstance(error, ConnectionLost | OSError) and not isinstance(error, ConnectionRefusedError):
            return "; if the server asks for a certificate, name ours in REDIS_TLS_CERT"
        return ""

    @property
    def slow_credentials(self) -> bool:
        """Whether making a handshake may block: a file is read, or a function of the application called."""
        return callable(self.settings.password) or self.settings.password_file is not None


class Asked(Awaitable[Reply], Protocol):
    """What is on its way: an `asyncio.Future`, as far as cores know it."""

    def cancel(self) -> bool:
        """Wait for it no more; False if it has its reply, or an error."""

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""

    def exception(self) -> BaseException | None:
        """Return what it raises, which is then heard."""


class Stream(Protocol):
    """A connection of its own whose pushes are listened to."""

    def next(self, timeout: float | None) -> Awaitable[Push | None]:
        """Return the next push, or None when there was none in time.

        Raises:
            ConnectionLost: there will be no more.
            ServerError: the server refused what was sent.
        """

    def send(self, packed: bytes) -> Awaitable[None]:
        """Send a command, such as ``SUBSCRIBE``, whose answer is pushes."""

    def ask(self, packed: Sequence[bytes]) -> Awaitable[list[Reply]]:
        """Send commands that are answered, and return their replies, refusals as values."""

    def close(self) -> Awaitable[None]:
        """Close the connection."""


class Node(Protocol):
    """The connections to one server, and the breaker that watches it. Refusals are raised by `send`, and values in lists."""

    address: Address
    role: Role
    breaker: Breaker
    may_transact: bool
    """Whether the server was seen to take ``MULTI``."""

    def send(self, packed: bytes, timeout: float | None = None) -> Awaitable[Reply]:
        """Send one command on a shared connection; *timeout* bounds everything (default: the read timeout)."""

    def send_many(self, packed: Sequence[bytes], timeout: float | None = None) -> Awaitable[list[Reply]]:
        """Send commands in one write on a shared connection, with nothing in between."""

    def send_pair(self, first: bytes, second: bytes) -> tuple[Asked, Asked] | None:
        """Send two commands in one write, now; None if there is nowhere to send them at once."""

    def gather(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> Awaitable[Reply] | None:
        """Add a record to the call that all who make it now make together; None where that cannot be."""

    def send_tracked(self, packed: Sequence[bytes], timeout: float, *, told: bool) -> Awaitable[tuple[list[Reply], object | None]]:
        """Send reads in one write, the first of them tracked if we are to be *told*; return the replies, and the connection.

        Without one (None) nothing is told.
        """

    def send_alone(self, packed: Sequence[bytes], timeout: float | None = None) -> Awaitable[list[Reply]]:
        """Send commands on a connection of their own; *timeout* is for the replies, ``math.inf`` for as long as it takes."""

    def stream(self, patience: float) -> Awaitable[Stream]:
        """Open a connection for pushes, within *patience* seconds."""

    def connect(self) -> Awaitable[None]:
        """Open connections now, or raise `ConnectFailed`."""

    def close(self) -> Awaitable[None]:
        """Let what is in flight finish, for at most the close timeout, and close every connection."""

    def stats(self) -> NodeStats:
        """Return counts of connections and of commands in flight."""


MakeNode = Callable[[Address, Role, Setup], Node]
