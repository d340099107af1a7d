"""JSON for a declared type, by msgspec: dataclasses, Structs, TypedDicts, datetimes, UUIDs, Decimals, bytes, unions of them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import EncodeError
from .finite import refuse_null_numbers

__all__ = ["TypedCodec"]


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
            raise EncodeError(f"a {type(value).__name__} cannot be stored as {_name(self.type)}: {error}") from error
        refuse_null_numbers(packed, lambda: msgspec.to_builtins(value))
        try:
            self.decode(packed)
        except self.failures as error:
            raise EncodeError(
                f"a {type(value).__name__} is not a valid {_name(self.type)}: {self.explain(error)}; "
                "return the declared type from the loader, or correct type="
            ) from None
        return packed

    def explain(self, failure: Exception) -> str:
        """Say what was wrong: msgspec names the place and the types, never the content."""
        return str(failure) if isinstance(failure, msgspec.DecodeError) else type(failure).__name__

    def __repr__(self) -> str:
        return f"TypedCodec({_name(self.type)})"


def _name(type_: Any) -> str:
    return getattr(type_, "__qualname__", None) or str(type_)
