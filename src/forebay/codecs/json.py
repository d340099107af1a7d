"""JSON for values of JSON's own types, exactly: what would come back as another type is refused, and told about ``type=``."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import EncodeError
from .plain import refuse_other_types

__all__ = ["JsonCodec"]

_PLAIN: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
_TAKES: Final = "JSON's own types alone (None, bool, int, float, str, list, dict with text keys)"


class JsonCodec:
    """None, bool, int, float, str, and lists and dicts of them with text as keys."""

    failures: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder().decode
        self._encode = msgspec.json.Encoder().encode

    def encode(self, value: Any) -> bytes:
        """Return *value* as JSON. Raises `EncodeError` for any other type, NaN, infinity, or text that UTF-8 cannot carry."""
        if type(value) not in _PLAIN:
            refuse_other_types(value, _PLAIN, _TAKES)
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
