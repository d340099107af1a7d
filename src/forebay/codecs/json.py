"""JSON for values of JSON's own types, exactly: what would come back as another type is refused, and told about ``type=``."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from ..errors import EncodeError

__all__ = ["JsonCodec"]

_PLAIN: Final = frozenset({str, int, bool, type(None)})
_DEEPEST: Final = 500


class JsonCodec:
    """None, bool, int, float, str, and lists and dicts of them with text as keys."""

    failures: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder().decode
        self._encode = msgspec.json.Encoder().encode

    def encode(self, value: Any) -> bytes:
        """Return *value* as JSON. Raises `EncodeError` for any other type, NaN, infinity, or text that UTF-8 cannot carry."""
        if type(value) not in _PLAIN:
            _check(value, (), 0)
        try:
            return self._encode(value)
        except UnicodeEncodeError:
            raise EncodeError("the value holds a lone surrogate, which UTF-8 cannot carry") from None
        except (ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"the value cannot be stored as JSON: {error}") from error

    def explain(self, failure: Exception) -> str:
        """Say what was wrong: msgspec names the place, never the content."""
        return str(failure) if isinstance(failure, msgspec.DecodeError) else type(failure).__name__

    def __repr__(self) -> str:
        return "JsonCodec()"


def _check(value: Any, path: tuple[str | int, ...], depth: int) -> None:
    kind = type(value)
    if kind in _PLAIN:
        return
    if depth > _DEEPEST:
        raise EncodeError(f"the value is nested deeper than {_DEEPEST} levels, or contains itself")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise _refusal(f"a dict key of type {type(key).__name__}", path)
            if type(item) not in _PLAIN:
                _check(item, (*path, key), depth + 1)
    elif kind is list:
        for index, item in enumerate(value):
            if type(item) not in _PLAIN:
                _check(item, (*path, index), depth + 1)
    elif kind is float:
        if not math.isfinite(value):
            raise EncodeError(f"{_place(path)} is {value}, which JSON cannot carry")
    else:
        raise _refusal(f"of type {kind.__name__}", path)


def _refusal(what: str, path: tuple[str | int, ...]) -> EncodeError:
    holds = "holds" if what.startswith("a dict key") else "is"
    return EncodeError(
        f"{_place(path)} {holds} {what}, and without type= a cache takes JSON's own types alone "
        "(None, bool, int, float, str, list, dict with text keys): give the cache type=, as in cache(..., type=User)"
    )


def _place(path: tuple[str | int, ...]) -> str:
    return "the value" if not path else "value" + "".join(f"[{step!r}]" for step in path[-8:])
