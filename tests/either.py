"""One test body for both colours."""

from __future__ import annotations

from typing import Any, Final

from forebay import Forebay

__all__ = ["Either", "as_either"]


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
