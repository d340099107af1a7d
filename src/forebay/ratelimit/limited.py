"""A limit around a block or a function: charged before it begins, and nothing else is changed about it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from ..colours import complete
from ..durations import Duration, to_seconds
from ..keys import Key
from .core import LimiterCore
from .deciding import limited
from .names import text_of
from .slots import Slot
from .verdict import Verdict

__all__ = ["AsyncLimited", "AsyncSlot", "Limited", "LimitedCore", "SlotBlock", "SlotCore"]

F = TypeVar("F", bound=Callable[..., Any])


class LimitedCore:
    """What both colours of a limited block or function hold: whose limit it is, and how long to wait for room."""

    def __init__(self, core: LimiterCore, key: Key | Callable[..., Key], timeout: Duration | None, cost: int) -> None:
        self._core = core
        self._key = key
        self._timeout = timeout
        self._cost = cost

    async def _enter(self, *args: Any, **kwargs: Any) -> Verdict:
        key = self._key(*args, **kwargs) if callable(self._key) else self._key
        if self._timeout is not None:
            return await self._core.acquire(key, self._timeout, self._cost)
        verdict = await self._core.hit(key, self._cost)
        if not verdict.allowed:
            raise limited(verdict)
        return verdict

    def _check_block(self) -> None:
        if callable(self._key):
            raise TypeError("a key that is a function of the arguments is for @limiter.limited(...); a block takes the key itself")

    def __repr__(self) -> str:
        return f"<limited by {self._core!r}>"


class AsyncLimited(LimitedCore):
    """``@limiter.limited(key)`` for async functions, and ``async with limiter.limited(key):``."""

    def __call__(self, function: F) -> F:
        """Return *function* with the limit before each call."""
        _refuse_generators(function)
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{_name(function)} is not async, and cannot await its turn: use a limiter of Forebay, the one for threads")

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._enter(*args, **kwargs)
            return await function(*args, **kwargs)

        return cast("F", call)

    async def __aenter__(self) -> Verdict:
        """Charge the limit, or raise `RateLimited`."""
        self._check_block()
        return await self._enter()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What was charged stays charged."""


class Limited(LimitedCore):
    """``@limiter.limited(key)`` for functions, and ``with limiter.limited(key):``."""

    def __call__(self, function: F) -> F:
        """Return *function* with the limit before each call."""
        _refuse_generators(function)
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{_name(function)} is async, and would block its loop: use a limiter of AsyncForebay")

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            complete(self._enter(*args, **kwargs))
            return function(*args, **kwargs)

        return cast("F", call)

    def __enter__(self) -> Verdict:
        """Charge the limit, or raise `RateLimited`."""
        self._check_block()
        return complete(self._enter())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What was charged stays charged."""


class SlotCore:
    """What both colours of a slot around a block hold. One object may be entered again and again, one after the other."""

    def __init__(self, core: LimiterCore, key: Key, timeout: Duration | None) -> None:
        self._core = core
        self._key = key
        self._timeout = timeout
        self._held: list[Slot] = []

    async def _take(self) -> Slot:
        policy, text = self._core.policy, text_of(self._key)
        if policy.is_exempt(self._key):
            slot = self._core.slots.unlimited(text)
        else:
            timeout = None if self._timeout is None else to_seconds(self._timeout)
            slot = await self._core.slots.take(text, timeout, is_open=policy.options.on_outage != "closed")
        self._held.append(slot)
        return slot

    async def _give(self) -> None:
        await self._core.slots.give(self._held.pop())

    def __repr__(self) -> str:
        return f"<slot of {self._core!r}>"


class AsyncSlot(SlotCore):
    """``async with limiter.slot(key):``."""

    async def __aenter__(self) -> Slot:
        """Take a slot, or raise `RateLimited`."""
        return await self._take()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give it back."""
        await self._give()


class SlotBlock(SlotCore):
    """``with limiter.slot(key):``."""

    def __enter__(self) -> Slot:
        """Take a slot, or raise `RateLimited`."""
        return complete(self._take())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give it back."""
        complete(self._give())


def _refuse_generators(function: Callable[..., Any]) -> None:
    if not callable(function):
        raise TypeError(f"@limiter.limited(...) is for functions, not for {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{_name(function)} is a generator: limit what it does for each item, inside")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
