"""One test body for both colours."""

from __future__ import annotations

from typing import Any, Final

from forebay import Forebay
from forebay.testing import moved_clock

__all__ = ["Either", "as_either", "older"]


_MAKING: Final = ("cache", "sessions", "tokens", "limiter")  # what hands out objects of the same colour


class Either:
    """A sync object under async names, so that one test body holds both colours: every method's result can be awaited."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.wrapped, name)
        if not callable(member) or name in ("stats", *_MAKING):
            if name in _MAKING:
                return lambda *args, **options: Either(member(*args, **options))
            return member

        async def call(*args: Any, **options: Any) -> Any:
            result = member(*args, **options)
            return self if result is self.wrapped else result

        return call


def as_either(bay: Any) -> Any:
    """Return *bay*, to be awaited in both colours."""
    return Either(bay) if isinstance(bay, Forebay) else bay


async def older(bay: Any, by: str) -> None:
    """Let *by* go by for all that *bay* has stored, in either colour."""
    with moved_clock(getattr(bay, "wrapped", bay)) as clock:
        done = clock.advance(by)
        if done is not None:
            await done
