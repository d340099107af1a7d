"""What the cache asks of a codec, and the choice of one for a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, get_args

__all__ = ["Codec", "codec_for", "holds_model"]

T_co = TypeVar("T_co", covariant=True)


class Codec(Protocol[T_co]):
    """Bytes in Redis for values in Python."""

    @property
    def decode(self) -> Callable[[bytes], T_co]:
        """Decodes, and raises one of `failures` on bytes that it cannot read. A plain C function where possible."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What `decode` raises."""

    def encode(self, value: Any) -> bytes:
        """Encode *value*, sure that `decode` will read it.

        Raises:
            EncodeError: it would not come back as it went in.
        """

    def explain(self, failure: Exception) -> str:
        """Say what was wrong with the bytes, without showing any of them."""


def codec_for(type_: Any) -> Codec[Any]:
    """Return the JSON codec for *type_*; None stands for "JSON's own types".

    Raises:
        EncodeError: the type cannot be stored as JSON.
    """
    if type_ is None:
        from .json import JsonCodec

        return JsonCodec()
    if holds_model(type_):
        from .models import ModelCodec

        return ModelCodec(type_)
    from .typed import TypedCodec

    return TypedCodec(type_)


def holds_model(type_: Any) -> bool:
    """Whether *type_* is a pydantic model, or a container or union that names one."""
    if isinstance(type_, type) and hasattr(type_, "__pydantic_validator__"):
        return True
    return any(holds_model(part) for part in get_args(type_))
