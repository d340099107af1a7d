"""What caches do in their ordinary work, as frozen records for one hook. They show keys, and never values.

What goes wrong without an exception is reported elsewhere, as an `Event`: each thing is told once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from .events import CallbackFailed, Reporter

__all__ = [
    "REFRESH",
    "FillRefused",
    "Hit",
    "Invalidated",
    "Listener",
    "LoadFailed",
    "Loaded",
    "Miss",
    "Operation",
    "OperationHook",
    "Refreshed",
]

REFRESH: Final = "refresh"


class Operation(Struct, frozen=True):
    """Something that a cache did. ``operation`` is the method that was called, or ``"refresh"`` in the background."""

    namespace: str
    operation: str


class Hit(Operation, frozen=True):
    """A value was found: ``near``, without a round trip; ``stale``, past its ttl, while it is refreshed or because it cannot be."""

    key: object
    near: bool = False
    stale: bool = False


class Miss(Operation, frozen=True):
    """No value was found that may be returned."""

    key: object


class Loaded(Operation, frozen=True):
    """A loader returned. ``keys`` are those that it was called for."""

    keys: tuple[object, ...]
    seconds: float


class Refreshed(Loaded, frozen=True):
    """A loader returned, in the background, while the value from before was served."""


class LoadFailed(Operation, frozen=True):
    """A loader raised, or was ended; whoever waited for it got the ``error``, or a stale value."""

    keys: tuple[object, ...]
    seconds: float
    error: BaseException


class FillRefused(Operation, frozen=True):
    """A loaded value was returned and not stored: its key was invalidated or written while it was loaded."""

    key: object


class Invalidated(Operation, frozen=True):
    """An invalidation was acknowledged. ``targets`` are keys, tags or the pattern; ``count`` is what it returned, None for tags."""

    targets: tuple[object, ...]
    count: int | None


OperationHook = Callable[[Operation], None]
"""Receives every operation, on the thread or loop where it happened. It must be quick, must not block, and must not use the cache."""


class Listener:
    """Hands operations to the hook. An error in the hook is reported, and never reaches the caller."""

    def __init__(self, hook: OperationHook, reporter: Reporter) -> None:
        if not callable(hook):
            raise TypeError(f"on_operation takes a function of one record, not {type(hook).__name__}")
        self._hook = hook
        self._reporter = reporter

    def __call__(self, operation: Operation) -> None:
        try:
            self._hook(operation)
        except Exception as error:  # noqa: BLE001 - the caller wants a value, and the hook is not part of that
            self._reporter.report(CallbackFailed(error, operation.namespace, "on_operation", operation))

    def __repr__(self) -> str:
        return f"<Listener {self._hook!r}>"
