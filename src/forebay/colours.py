"""One docstring for both colours: the sync twin of a class takes those of the async one, where they were written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["documented_like"]

C = TypeVar("C", bound=type)


def documented_like(twin: type) -> Callable[[C], C]:
    """Give each public method or property that has no docstring the one of *twin*'s member of that name."""

    def decorate(cls: C) -> C:
        for name, member in vars(cls).items():
            if not name.startswith("_") and not member.__doc__:
                member.__doc__ = getattr(twin, name).__doc__
        return cls

    return decorate
