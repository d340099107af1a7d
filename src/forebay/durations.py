"""One way to say how long: seconds as a number, a ``timedelta``, or text such as ``"15m"``. The wire sees milliseconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final

from .errors import InvalidDuration

__all__ = ["Duration", "to_ms", "to_seconds"]

Duration = float | timedelta | str
"""Seconds (``90``, ``0.5``), a ``timedelta``, or text: ``"250ms"``, ``"15m"``, ``"1h30m"``, ``"7d"``."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART: Final = r"(\d+(?:\.\d+)?)(ms|[smhdw])"  # compiled on first use: most lifetimes are read once
_LONGEST: Final = 100 * 365 * 86400.0


def to_seconds(value: Duration) -> float:
    """Return *value* as seconds.

    Text is a number of seconds (``"3"``) or numbers with the units ms, s, m, h, d, w (``"1h30m"``).

    Raises:
        InvalidDuration: not a number, ``timedelta`` or such text, not above zero, or beyond a hundred years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _read(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= _LONGEST else math.inf  # a whole number may be more than a float can hold
    else:
        raise InvalidDuration(f"a duration is seconds, a timedelta or text such as '15m', not {type(value).__name__}")
    if not 0 < seconds <= _LONGEST:  # also false for NaN
        raise InvalidDuration(f"{value!r} is not a duration: it must be above zero and at most a hundred years")
    return seconds


def to_ms(value: Duration) -> int:
    """Return *value* as whole milliseconds, rounded up: a lifetime is never shorter than asked, and never zero."""
    return math.ceil(round(to_seconds(value) * 1000, 6))


def _read(text: str) -> float:
    stripped = text.strip()
    try:
        return float(stripped)
    except ValueError:
        pass
    parts = list(re.finditer(_PART, stripped))
    if not parts or "".join(part[0] for part in parts) != stripped:
        raise InvalidDuration(f"{text!r} is not a duration: write seconds ('3'), or units as in '250ms', '15m', '1h30m', '7d'")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)
