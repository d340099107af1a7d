"""The one seam between operations and the world. A core awaits nothing but what its `Port` returns.

On the asyncio port those awaits suspend. On the blocking port they never do, so that `complete` finishes the same
coroutine with a single ``send(None)``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ..wire.resp import Arg, Reply
from ..wire.stats import WireStats

__all__ = ["Arg", "Loader", "Port", "Promise", "Reply", "complete"]

T = TypeVar("T")

Loader = Callable[[], T | Awaitable[T]]
"""Loads a value, without arguments. In the sync colour it must not return an awaitable."""


class Promise(Protocol, Generic[T]):
    """A value that several callers wait for. One of them leaving does not disturb the others."""

    def keep(self, value: T) -> None:
        """Give *value* to all who wait, and to all who come later."""

    def fail(self, error: BaseException) -> None:
        """Raise *error* in all who wait, and in all who come later."""

    def wait(self) -> Awaitable[T]:
        """Wait for the value."""


class Port(Protocol):
    """Commands, loaders, and waiting, in one colour."""

    def execute(self, *args: Arg) -> Awaitable[Reply]:
        """Send one command; raise its refusal."""

    def execute_many(self, commands: Sequence[tuple[Arg, ...]]) -> Awaitable[list[Reply]]:
        """Send several commands in one write; refusals are values in the list."""

    def call(self, loader: Callable[[], Any]) -> Awaitable[Any]:
        """Call a user's function and return its value, awaited if the colour allows."""

    def promise(self) -> Promise[Any]:
        """Return a promise that is not kept yet."""

    def launch(self, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run *work*, which raises nothing, apart from its caller; return what cancels it. (Threads run it to its end at once.)"""

    def connect(self) -> Awaitable[None]:
        """Open a connection now."""

    def close(self) -> Awaitable[None]:
        """Close every connection."""

    def stats(self) -> WireStats:
        """Count connections and commands in flight."""


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Finish *work*, a coroutine over a blocking port, and return its result.

    Raises:
        RuntimeError: it suspended, so something in it awaits more than its port.
    """
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    raise RuntimeError(f"{work!r} suspended on a blocking port: it awaited something that is not the port's")
