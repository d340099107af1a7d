"""JSON for a declared type, by msgspec: dataclasses, Structs, TypedDicts, datetimes, UUIDs, Decimals, bytes, unions of them."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ..errors import EncodeError
from .finite import refuse_null_numbers

__all__ = ["TypedCodec", "explain_failure", "name_of"]

_PLACE: Final = re.compile(r" - at `(?:key` in `)?\$[^`]*`$")
_QUOTING: Final = ("Invalid enum value", "Invalid value", "Object contains unknown field")  # and then what was read


class TypedCodec:
    """Encodes values of one type; what it encodes it has decoded once, so that a reader will not fail."""

    failures: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

    def __init__(self, type_: Any) -> None:
        self.type = type_
        try:
            self.decode = msgspec.json.Decoder(type_).decode
            msgspec.json.schema(type_)  # the decoder would accept classes that it can never produce
        except (TypeError, NameError) as error:
            raise EncodeError(f"type={type_!r} cannot be stored as JSON: {error}") from error
        self._encode = msgspec.json.Encoder().encode

    def encode(self, value: Any) -> bytes:
        """Return *value* as JSON that decodes into the type. Raises `EncodeError` if it does not."""
        try:
            packed = self._encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"a {type(value).__name__} cannot be stored as {name_of(self.type)}: {error}") from error
        refuse_null_numbers(packed, lambda: msgspec.to_builtins(value))
        try:
            self.decode(packed)
        except self.failures as error:
            raise EncodeError(
                f"a {type(value).__name__} is not a valid {name_of(self.type)}: {self.explain(error)}; "
                "return the declared type from the loader, or correct type="
            ) from None
        return packed

    def explain(self, failure: Exception) -> str:
        """Say what was wrong: the place and the types, never the content."""
        return explain_failure(failure)

    def __repr__(self) -> str:
        return f"TypedCodec({name_of(self.type)})"


def name_of(type_: Any) -> str:
    """Return the name of *type_* for a message."""
    return type_.__qualname__ if isinstance(type_, type) else str(type_)


def explain_failure(failure: Exception) -> str:
    """Say what a decoder of msgspec found wrong, and where, without the content that some of its messages quote."""
    if not isinstance(failure, msgspec.DecodeError):
        return type(failure).__name__
    text = str(failure)
    place = found[0] if (found := _PLACE.search(text)) else ""
    if failure.__cause__ is not None:  # the text is that of the type's own code, as in __post_init__
        return f"refused by the type itself with {type(failure.__cause__).__name__}{place}"
    for quoting in _QUOTING:
        if text.startswith(quoting):
            return quoting + place
    return text
