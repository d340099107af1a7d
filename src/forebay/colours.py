"""Two colours from one text: a coroutine that never suspends is a plain call, and one docstring serves both classes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

__all__ = ["complete", "documented_like"]

C = TypeVar("C", bound=type)
T = TypeVar("T")


def documented_like(twin: type) -> Callable[[C], C]:
    """Give each public method or property that has no docstring the one of *twin*'s member of that name."""

    def decorate(cls: C) -> C:
        for name, member in vars(cls).items():
            if not name.startswith("_") and not member.__doc__:
                member.__doc__ = getattr(twin, name).__doc__
        return cls

    return decorate


def complete(work: Awaitable[T]) -> T:
    """Finish *work*, a coroutine over a blocking port, and return its result.

    Raises:
        RuntimeError: it suspended, so something in it awaits more than its port.
    """
    coroutine = cast("Coroutine[Any, Any, T]", work)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{work!r} suspended on a blocking port: it awaited something that is not the port's")
