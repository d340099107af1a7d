"""MessagePack for the same values as JSON, and for bytes as they are: smaller and quicker to read, but only for programs.

Aware datetimes come back in UTC: the same instant, and equal, but no longer with the offset they were written in. NaN and the
infinities are carried. pydantic's models are refused: pydantic reads and writes JSON itself, and a detour through Python
objects would run other validation than ``codec="json"`` does (a strict model takes an ISO date in JSON alone).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import EncodeError, SettingsError
from .codec import Codec, holds_model
from .plain import refuse_other_types
from .typed import explain_failure, name_of

__all__ = ["MsgpackCodec", "TypedMsgpackCodec", "msgpack_codec_for"]

_PLAIN: Final[frozenset[type]] = frozenset({str, int, bool, type(None), float, bytes})
_TAKES: Final = "JSON's own types and bytes alone (None, bool, int, float, str, bytes, list, dict with text keys)"
_FAILURES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def msgpack_codec_for(type_: Any) -> Codec[Any]:
    """Return the MessagePack codec for *type_*; None stands for "JSON's own types and bytes".

    Raises:
        SettingsError: the type is a pydantic model, or holds one.
        EncodeError: the type cannot be stored.
    """
    if type_ is None:
        return MsgpackCodec()
    if holds_model(type_):
        raise SettingsError(
            f"codec='msgpack' does not carry pydantic models, as in type={name_of(type_)}: "
            "leave codec= at 'json', or declare a dataclass or a msgspec.Struct"
        )
    return TypedMsgpackCodec(type_)


class MsgpackCodec:
    """None, bool, int (of 64 bits), float, str, bytes, and lists and dicts of them with text as keys."""

    failures: Final = _FAILURES

    def __init__(self) -> None:
        self.decode = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode
        self._encode = msgspec.msgpack.Encoder().encode

    def encode(self, value: Any) -> bytes:
        """Return *value* as MessagePack. Raises `EncodeError` for any other type, or text that UTF-8 cannot carry."""
        if type(value) not in _PLAIN:
            refuse_other_types(value, _PLAIN, _TAKES)
        try:
            return self._encode(value)
        except UnicodeEncodeError:
            raise EncodeError("the value holds a lone surrogate, which UTF-8 cannot carry") from None
        except (ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"the value cannot be stored as MessagePack: {error}") from error

    def explain(self, failure: Exception) -> str:
        """Say what was wrong: msgspec names the place, never the content."""
        return explain_failure(failure)

    def __repr__(self) -> str:
        return "MsgpackCodec()"


class TypedMsgpackCodec:
    """Encodes values of one type; what it encodes it has decoded once, so that a reader will not fail."""

    failures: Final = _FAILURES

    def __init__(self, type_: Any) -> None:
        self.type = type_
        try:
            self.decode = msgspec.msgpack.Decoder(type_, ext_hook=_refuse_extension).decode
            msgspec.json.schema(type_)  # as in typed.py: the decoder would accept classes that it can never produce
        except (TypeError, NameError) as error:
            raise EncodeError(f"type={type_!r} cannot be stored as MessagePack: {error}") from error
        self._encode = msgspec.msgpack.Encoder().encode

    def encode(self, value: Any) -> bytes:
        """Return *value* as MessagePack that decodes into the type. Raises `EncodeError` if it does not."""
        try:
            packed = self._encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"a {type(value).__name__} cannot be stored as {name_of(self.type)}: {error}") from error
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
        return f"TypedMsgpackCodec({name_of(self.type)})"


def _refuse_extension(code: int, _data: memoryview) -> Any:
    raise msgspec.DecodeError(f"an extension of type {code}, which this codec never writes")
