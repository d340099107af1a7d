"""Values of plain types alone: without a declared type, a decoder gives back what was encoded only if it was plain to begin with."""

from __future__ import annotations

import math
from typing import Any, Final

from ..errors import EncodeError

__all__ = ["refuse_other_types"]

_DEEPEST: Final = 500


def refuse_other_types(value: Any, scalars: frozenset[type], takes: str) -> None:
    """Raise `EncodeError` unless *value* is one of *scalars*, a float, or lists and dicts of them with text as keys.

    A float that is no number passes only if float is among the *scalars*. *takes* says in words what is taken, for the message.
    Subclasses are refused as well: they would come back as their base.
    """
    _check(value, scalars, takes, (), 0)


def _check(value: Any, scalars: frozenset[type], takes: str, path: tuple[str | int, ...], depth: int) -> None:
    kind = type(value)
    if kind in scalars:
        return
    if depth > _DEEPEST:
        raise EncodeError(f"the value is nested deeper than {_DEEPEST} levels, or contains itself")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise EncodeError(f"{_place(path)} holds a dict key of type {type(key).__name__}, and {_remedy(takes)}")
            if type(item) not in scalars:
                _check(item, scalars, takes, (*path, key), depth + 1)
    elif kind is list:
        for index, item in enumerate(value):
            if type(item) not in scalars:
                _check(item, scalars, takes, (*path, index), depth + 1)
    elif kind is float:
        if not math.isfinite(value):
            raise EncodeError(f"{_place(path)} is {value}, which JSON cannot carry")
    else:
        raise EncodeError(f"{_place(path)} is of type {kind.__name__}, and {_remedy(takes)}")


def _remedy(takes: str) -> str:
    return f"without type= a cache takes {takes}: give the cache type=, as in cache(..., type=User)"


def _place(path: tuple[str | int, ...]) -> str:
    return "the value" if not path else "value" + "".join(f"[{step!r}]" for step in path[-8:])
