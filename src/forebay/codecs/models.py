"""JSON for pydantic models and for types built of them. pydantic is imported only when such a type is declared."""

from __future__ import annotations

from typing import Any, Final

from ..errors import EncodeError
from .finite import refuse_null_numbers

__all__ = ["ModelCodec"]

_DATA: Final = frozenset({"default", "expected", "metadata", "serialization"})  # parts of a schema that are not schemas
_NOT_SHOWN: Final = "*"


class ModelCodec:
    """Encodes through pydantic's own JSON, with its validators and serializers.

    Raises:
        EncodeError: pydantic does not know a part of the type.
    """

    def __init__(self, type_: Any) -> None:
        from pydantic import TypeAdapter, ValidationError
        from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
        from pydantic_core import PydanticSerializationError

        try:
            adapter = TypeAdapter(type_)
        except (PydanticUserError, PydanticUndefinedAnnotation, TypeError, NameError) as error:
            raise EncodeError(f"type={type_!r} cannot be stored as JSON: {str(error).partition(chr(10))[0]}") from error
        self._adapter = adapter
        self._known: frozenset[str] | None = None
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
        """Name places and kinds of error; pydantic's own text would show the input, and a place may be a key of a dict."""
        errors = failure.errors(include_url=False, include_context=False, include_input=False)  # type: ignore[attr-defined]
        if self._known is None:  # not before it is needed: a model may be completed after its cache was made
            self._known = _field_names(self._adapter.core_schema)
        known = self._known
        places = [".".join(_step(step, known) for step in error["loc"]) or "$" for error in errors[:3]]
        shown = [f"{place}: {error['type']}" for place, error in zip(places, errors, strict=False)]
        more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
        return "; ".join(shown) + more

    def __repr__(self) -> str:
        return f"ModelCodec({self.type!r})"


def _step(step: object, known: frozenset[str]) -> str:
    """A position in a list or the name of a field; all else may have come from the bytes."""
    return str(step) if isinstance(step, int) or step in known else _NOT_SHOWN


def _field_names(schema: Any) -> frozenset[str]:
    """The names and aliases of all fields in a schema of pydantic-core."""
    names: set[str] = set()
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list | tuple):
            parts += part
        elif isinstance(part, dict):
            fields = part.get("fields")
            if isinstance(fields, dict):  # by name, and a field may be named as a part of a schema is
                names.update(fields)
                parts += fields.values()
                part = {key: inner for key, inner in part.items() if key != "fields"}
            names.update(text for text in (part.get("name"), *_flat(part.get("validation_alias"))) if isinstance(text, str))
            parts += [inner for key, inner in part.items() if key not in _DATA]
    return frozenset(names)


def _flat(alias: Any) -> list[Any]:
    """The texts of an alias: one, a path, or a choice of paths."""
    return [text for part in alias for text in _flat(part)] if isinstance(alias, list | tuple) else [alias]
