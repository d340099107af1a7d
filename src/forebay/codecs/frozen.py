"""Whether values may be shared between callers: only if nobody who holds one can change what another sees, all the way down.

When in doubt the answer is no: then every caller gets a copy of its own, which costs time and never correctness.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import types
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

__all__ = ["is_frozen", "is_frozen_value"]

_SCALARS: Final[frozenset[Any]] = frozenset(
    {
        *(str, int, float, bool, bytes, types.NoneType),
        *(dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone),
        *(uuid.UUID, decimal.Decimal),
    }
)
_PLAIN: Final[frozenset[type]] = frozenset({str, int, float, bool, bytes, types.NoneType})

_MUTABLE: Final = (list, dict, set, bytearray)

_Bound = Mapping[Any, Any]


def is_frozen(type_: Any) -> bool:
    """Whether every value of the declared *type_* is immutable, with everything that it holds.

    True for text, numbers, bytes, dates and times, UUIDs, Decimals, enums; for tuples, frozensets, unions, NamedTuples, frozen
    dataclasses, frozen Structs and frozen pydantic models whose parts all are. Never for lists, dicts, sets, TypedDicts, Any,
    nor for None in the place of a type ("JSON's own types"). A class with a ``cached_property`` or private attributes is not,
    nor a subclass of a frozen dataclass that is not decorated itself (it takes any attribute), nor a generic class that inherits
    from another one (a type variable of the base may stand for something else there).
    """
    if type_ is None:
        return False
    try:
        return _Walk().frozen(type_, {})
    except (NameError, TypeError, AttributeError, RecursionError):
        return False  # annotations that name what is not there, or a type that holds ever larger types


def is_frozen_value(value: object) -> bool:
    """Whether an undeclared *value* is immutable: text, a number, a bool, None or bytes; exactly, for a subclass may have attributes."""
    return type(value) in _PLAIN


class _Walk:
    """Through a type and the types of its fields. A class that is met again inside itself is no reason against itself."""

    def __init__(self) -> None:
        self._met: set[Any] = set()

    def frozen(self, type_: Any, bound: _Bound) -> bool:
        """Whether *type_* is, where *bound* says what the type variables stand for."""
        if isinstance(type_, TypeVar):
            return type_ in bound and self.frozen(bound[type_], {})
        if type_ is None:
            return True
        if isinstance(type_, NewType):
            return self.frozen(type_.__supertype__, bound)
        origin = get_origin(type_)
        if origin is None:
            return self._frozen_class(type_, {}) if isinstance(type_, type) else self._frozen_alias(type_, ())
        if origin is Literal:
            return True
        parts = get_args(type_)
        if origin is Annotated or origin is Final:
            return self.frozen(parts[0], bound)
        if origin is Union or origin is types.UnionType or origin is frozenset:
            return all(self.frozen(part, bound) for part in parts)
        if origin is tuple:
            return all(part is ... or self.frozen(part, bound) for part in parts)
        given = tuple(_substitute(part, bound) for part in parts)
        if isinstance(origin, type):
            return self._frozen_class(origin, dict(zip(getattr(origin, "__parameters__", ()), given, strict=False)), given)
        return self._frozen_alias(origin, given)

    def _frozen_alias(self, alias: Any, given: tuple[Any, ...]) -> bool:
        """For ``type Name = ...``, of Python 3.12 or typing_extensions. Whatever else is no class is not known to be frozen."""
        if not hasattr(alias, "__value__") or (alias, given) in self._met:
            return hasattr(alias, "__value__")
        self._met.add((alias, given))
        return self.frozen(alias.__value__, dict(zip(alias.__type_params__, given, strict=False)))

    def _frozen_class(self, class_: type, bound: _Bound, given: tuple[Any, ...] = ()) -> bool:
        if class_ in _SCALARS or issubclass(class_, enum.Enum):
            return True
        if (class_, given) in self._met:
            return True
        self._met.add((class_, given))
        if bound and any(getattr(base, "__parameters__", ()) for base in class_.__mro__[1:]):
            return False  # as in Sub(Base[list[T]], Generic[T]): the T of the inherited fields is not the T of Sub[int]
        fields = _frozen_fields(class_)
        return fields is not None and all(self.frozen(field, bound) for field in fields)


def _frozen_fields(class_: type) -> list[Any] | None:
    """The types of the fields of a class whose fields cannot be set; None if they can, or if that is not known."""
    if issubclass(class_, _MUTABLE):
        return None
    if any(isinstance(member, functools.cached_property) for base in class_.__mro__ for member in vars(base).values()):
        return None
    if dataclasses.is_dataclass(class_):
        params = vars(class_).get("__dataclass_params__")  # its own: an inherited one guards the fields alone
        if params is None or not params.frozen:
            return None
        return _hinted(class_, [field.name for field in dataclasses.fields(class_)])
    if issubclass(class_, msgspec.Struct):
        return _hinted(class_, class_.__struct_fields__) if class_.__struct_config__.frozen else None
    if issubclass(class_, tuple) and hasattr(class_, "_fields"):  # a subclass of a NamedTuple takes any attribute
        return None if class_.__dictoffset__ else _hinted(class_, class_._fields)
    if hasattr(class_, "__pydantic_validator__"):
        return _model_fields(class_)
    return None


def _model_fields(model: Any) -> list[Any] | None:
    config = model.model_config
    if model.__private_attributes__ or config.get("extra") == "allow":
        return None
    fields = model.model_fields.values()
    if not config.get("frozen") and not all(field.frozen for field in fields):
        return None
    return [field.annotation for field in fields]


def _hinted(class_: type, names: Any) -> list[Any]:
    hints = get_type_hints(class_, include_extras=True)
    return [hints.get(name, Any) for name in names]


def _substitute(type_: Any, bound: _Bound) -> Any:
    """Return *type_* with its type variables replaced, as in ``Box[tuple[T, ...]]`` inside of another generic class."""
    if isinstance(type_, TypeVar):
        return bound.get(type_, type_)
    parameters = () if isinstance(type_, type) else getattr(type_, "__parameters__", ())
    return type_[tuple(bound.get(parameter, parameter) for parameter in parameters)] if parameters else type_
