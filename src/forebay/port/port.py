"""The one seam between operations and the world. A core awaits nothing but what its `Port` returns.

On the asyncio port those awaits suspend. On the blocking port they never do, so that `complete` finishes the same
coroutine with a single ``send(None)``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ..colours import complete
from ..errors import ServerError, Unavailable
from ..wire.resp import Arg, Reply

if TYPE_CHECKING:
    from ..wire.gatherable import Gatherable
    from ..wire.node import Asked, Stream
    from ..wire.stats import WireStats
    from ..wire.subscription import Message
    from ..wire.waiting import Waiting
    from .tracking import Tracking

__all__ = ["Arg", "Loader", "Port", "Promise", "Reply", "Subscribed", "complete", "raise_refusal"]

T = TypeVar("T")

Loader = Callable[[], T | Awaitable[T]]
"""Loads a value, without arguments. In the sync colour it must not return an awaitable."""


class Promise(Protocol, Generic[T]):
    """A value that several callers wait for. One of them leaving does not disturb the others."""

    def keep(self, value: T) -> None:
        """Give *value* to all who wait, and to all who come later."""

    def fail(self, error: BaseException) -> None:
        """Raise *error* in all who wait, and in all who come later."""

    def wait(self, timeout: float | None = None) -> Awaitable[T]:
        """Wait for the value; raise `TimeoutError` after *timeout* seconds."""


class Subscribed(Protocol):
    """A subscription's connection."""

    def open(self) -> Awaitable[None]:
        """Connect and subscribe, or raise `ConnectFailed`."""

    def next(self, timeout: float | None) -> Awaitable[Message | None]:
        """Return the next message, None if there was none in time; raise `Closed` once it is closed."""

    def close(self) -> Awaitable[None]:
        """Unsubscribe."""


class Port(Protocol):
    """Commands, loaders, and waiting, in one colour."""

    @property
    def waiting(self) -> Waiting:
        """Pauses and background work."""

    def execute(self, *args: Arg, timeout: float | None = None, idempotent: bool = False, replica: bool = False) -> Awaitable[Reply]:
        """Send one command; raise its refusal. *timeout* is in seconds; *idempotent* allows repeats, *replica* old answers."""

    @property
    def tells(self) -> bool:
        """Whether servers can tell of changed keys through this port."""

    @property
    def tracking(self) -> Tracking:
        """Who hears of changed keys."""

    def get(self, name: str) -> Awaitable[Reply]:
        """``get`` *name*, once, within the cache's budget. What is `Unavailable` goes to `again`."""

    def track(self, key: bytes, commands: Sequence[tuple[Arg, ...]], *, told: bool = True) -> Awaitable[tuple[list[Reply], object | None]]:
        """Read *key* and be told when it changes; see `Route.track`."""

    def stream(self) -> Awaitable[Stream]:
        """Open a connection that is told of changes, or raise `ConnectFailed`."""

    def await_change(self, name: str, still: Callable[[bytes | None], bool], timeout: float) -> Awaitable[bytes | None]:
        """Return what is stored under *name* as soon as that is not *still* so, or after *timeout* seconds.

        Raises:
            Unavailable, ServerError: it cannot be read.
        """

    def pair(self, key: bytes, first: bytes, second: bytes) -> tuple[Asked, Asked] | None:
        """Send two packed reads of *key*'s slot now, once, in one write, before anybody waits for their replies.

        None where that cannot be at this moment. What they raise goes to `read_again`, if it is `Unavailable`.
        """

    def gather(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> Awaitable[Reply] | None:
        """Add a record to the call of a script that all who make it in this tick make together; see `Route.gather`."""

    def ahead(self, commands: Sequence[tuple[Arg, ...]]) -> Asked | None:
        """Do as `execute_many`, before anybody waits for it; None where that cannot be."""

    def read_again(self, error: Unavailable, commands: Sequence[tuple[Arg, ...]]) -> Awaitable[list[Reply]]:
        """Send reads again after *error*, where that may help; or raise it."""

    def send(self, *args: Arg) -> Awaitable[Reply]:
        """Send one command, once; raise its refusal. What is `Unavailable` goes to `again`."""

    def again(self, error: Unavailable, args: tuple[Arg, ...], *, idempotent: bool = False) -> Awaitable[Reply]:
        """Repeat what failed with *error* where that is safe, or raise it."""

    def execute_many(
        self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None, idempotent: bool = False, replica: bool = False
    ) -> Awaitable[list[Reply]]:
        """Send several commands in one write; refusals are values in the list."""

    def transaction(self, commands: Sequence[tuple[Arg, ...]], *, timeout: float | None = None) -> Awaitable[list[Reply]]:
        """Run several commands as one; errors while they ran are values in the list."""

    def subscription(self, channels: Sequence[str], patterns: Sequence[str]) -> Subscribed:
        """Return a subscription that is not open yet."""

    def call(self, loader: Callable[[], Any], timeout: float | None = None) -> Awaitable[Any]:
        """Call a user's function and return its value, awaited if the colour allows; `LoaderTimeout` after *timeout* seconds.

        (On threads a function that is late runs on, and nobody hears of it.)
        """

    def promise(self) -> Promise[Any]:
        """Return a promise that is not kept yet."""

    def launch(self, work: Coroutine[Any, Any, None], *, finishes: bool = False) -> Callable[[], None]:
        """Run *work*, which raises nothing, apart from its caller; return what cancels it. (Threads run it to its end at once.)

        When the port closes it is cancelled, unless it *finishes*: then it is waited for.
        """

    def background(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run *work*, which raises nothing, while its caller goes on; False if there is too much of that already."""

    def repeat(self, every: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Run *work* every so many seconds, until what is returned is called."""

    def connect(self) -> Awaitable[None]:
        """Open a connection now."""

    def close(self) -> Awaitable[None]:
        """Close every connection."""

    def stats(self) -> WireStats:
        """Count connections and commands in flight."""


def raise_refusal(replies: list[Reply]) -> None:
    """Raise the first refusal among *replies*, if there is one."""
    for reply in replies:
        if isinstance(reply, ServerError):
            raise reply
