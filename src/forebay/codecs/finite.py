"""JSON has no NaN and no infinity: encoders write ``null`` for them, which would come back as None."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import EncodeError

__all__ = ["refuse_null_numbers"]


def refuse_null_numbers(packed: bytes, builtins: Callable[[], Any]) -> None:
    """Raise `EncodeError` if *packed* says ``null`` where *builtins*, the value in plain types, has a number."""
    if b"null" in packed and _holds_no_number(builtins()):
        raise EncodeError("the value holds a NaN or an infinity, which JSON cannot carry: it would come back as None")


def _holds_no_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_holds_no_number, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_holds_no_number, value))
