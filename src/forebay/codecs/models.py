"""JSON for pydantic models and for types built of them. pydantic is imported only when such a type is declared."""

from __future__ import annotations

from typing import Any

from ..errors import EncodeError
from .finite import refuse_null_numbers

__all__ = ["ModelCodec"]


class ModelCodec:
    """Encodes through pydantic's own JSON, with its validators and serializers."""

    def __init__(self, type_: Any) -> None:
        from pydantic import TypeAdapter, ValidationError
        from pydantic_core import PydanticSerializationError

        adapter = TypeAdapter(type_)
        self._adapter = adapter
        self.type = type_
        self.decode = adapter.validate_json
        self.failures: tuple[type[Exception], ...] = (ValidationError,)
        self._not_serializable = PydanticSerializationError

    def encode(self, value: Any) -> bytes:
        """Return *value* as JSON that validates as the type. Raises `EncodeError` if it does not."""
        try:
            packed, model = self._dump(value)
            refuse_null_numbers(packed, lambda: self._adapter.dump_python(model))
            self.decode(packed)
        except self.failures as error:
            raise EncodeError(f"a {type(value).__name__} is not a valid {self.type!r}: {self.explain(error)}") from None
        except self._not_serializable:
            raise EncodeError(f"a {type(value).__name__} cannot be stored as {self.type!r}") from None
        return packed

    def _dump(self, value: Any) -> tuple[bytes, Any]:
        try:
            return self._to_json(value), value
        except self._not_serializable:  # not the model itself: perhaps a dict that validates as one
            model = self._adapter.validate_python(value)
            return self._to_json(model), model

    def _to_json(self, value: Any) -> bytes:
        return self._adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")

    def explain(self, failure: Exception) -> str:
        """Name places and kinds of error; pydantic's own text would show the input."""
        errors = failure.errors(include_url=False, include_context=False, include_input=False)  # type: ignore[attr-defined]
        shown = [f"{'.'.join(map(str, error['loc'])) or '$'}: {error['type']}" for error in errors[:3]]
        more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
        return "; ".join(shown) + more

    def __repr__(self) -> str:
        return f"ModelCodec({self.type!r})"
