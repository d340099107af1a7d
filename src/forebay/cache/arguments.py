"""Text for the values that a call is made with: equal text means equal values of equal types, today, tomorrow and in any process.

The text reads like Python: ``42``, ``'Ada'``, ``(1,2)``, ``Decimal(1.50)``, ``shop.models.Point(x=1,y=2)``. Nothing is taken from
``repr``, ``hash`` or ``id`` of an object: whatever has no text of its own is refused, for an entry under a key that says too
little is one user's data shown to another. A class is known by its module and its qualified name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

__all__ = ["CACHE_KEY", "Unkeyable", "bare_text_of", "name_of", "quoted", "shortened", "text_of"]

CACHE_KEY: Final = "__cache_key__"
"""What an object may have to say what it is in a key: a value that has a text, or a method without arguments that returns one."""

_LONGEST: Final = 240  # bytes of a key that is kept as it is
_HEAD: Final = 200  # characters of a longer one: with the digest it is over _LONGEST bytes, and so never the text of a short one
_UNWRITTEN: Final = re.compile("['\\\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # what ends a text, and what a key must not hold
_PLAIN_NAME: Final = re.compile(r"[\w.<>]+")
_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@+-]*")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORDS: Final = frozenset({"None", "True", "False", "inf", "nan"})
_BITS: Final = 4096  # of a whole number in decimal; Python refuses to write very long ones
_INSTEAD: Final[dict[type, str]] = {list: "a tuple", dict: "a tuple of pairs or a frozen dataclass", set: "a frozenset", bytearray: "bytes"}


class Unkeyable(Exception):
    """A value has no text. The message says what it is, and how it could have one."""


def text_of(value: object) -> str:
    """Return the text of *value*.

    Raises:
        Unkeyable: it is mutable, or an object that does not say what it stands for.
    """
    write = _EXACT.get(type(value))
    return _text_of_object(value) if write is None else write(value)


def bare_text_of(value: object, separators: str = "") -> str:
    """Return the text of *value* for a place between *separators*: simple text, UUIDs and dates without quotes and brackets.

    The result begins with ``'`` or ``[`` and shows its own end, or it holds no separator. Values of different types, or that
    differ, still have different texts: the string ``"42"`` keeps its quotes.

    Raises:
        Unkeyable: as `text_of`.
    """
    kind = type(value)
    if kind is str:
        text: str = value  # type: ignore[assignment]
        if _BARE.fullmatch(text) and text not in _WORDS and not _UUID.fullmatch(text) and not any(mark in text for mark in separators):
            return text
        return quoted(text)
    written = str(value) if kind is UUID or kind is date else text_of(value)
    return f"[{written}]" if any(mark in written for mark in separators) else written


def quoted(text: str) -> str:
    """Return *text* in quotes, without control characters; two texts never look the same."""
    return f"'{_UNWRITTEN.sub(_escape, text)}'" if _UNWRITTEN.search(text) else f"'{text}'"


def name_of(thing: Any) -> str:
    """Return by what name a function or class is known: its module and qualified name, also of a module run with ``python -m``."""
    module = thing.__module__
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = module if spec is None else spec.name
    name = f"{module}.{thing.__qualname__}"
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)


def shortened(key: str) -> str:
    """Return *key*, or if it is long its beginning and a digest of all of it."""
    if len(key) <= _LONGEST // 4:
        return key
    packed = key.encode()
    return key if len(packed) <= _LONGEST else f"{key[:_HEAD]}~{hashlib.sha256(packed).hexdigest()}"


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return "\\" + character if character in "'\\" else f"\\u{ord(character):04x}"


def _int(value: int) -> str:
    return str(value) if value.bit_length() <= _BITS else hex(value)


def _tuple(value: tuple[object, ...]) -> str:
    return f"({','.join(map(text_of, value))})"


def _frozenset(value: frozenset[object]) -> str:
    return f"frozenset({','.join(sorted(map(text_of, value)))})"


def _datetime(value: datetime) -> str:
    return f"datetime({value.isoformat()}{_zone(value.tzinfo, value)}{',fold' if value.fold else ''})"


def _time(value: time) -> str:
    return f"time({value.isoformat()}{_zone(value.tzinfo, None)}{',fold' if value.fold else ''})"


def _zone(zone: tzinfo | None, moment: datetime | None) -> str:
    """Two zones may have the same offset today: ISO 8601 tells an offset only."""
    if zone is None or type(zone) is timezone:
        return ""
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return f",{quoted(zone.key)}"
    return f",{name_of(type(zone))},{quoted(zone.tzname(moment) or '')}"


def _timedelta(value: timedelta) -> str:
    return f"timedelta({value.days},{value.seconds},{value.microseconds})"


_EXACT: Final[dict[type, Callable[[Any], str]]] = {  # of these no subclass: one may hold more than its text tells
    str: quoted,
    int: _int,
    bool: str,
    float: repr,
    type(None): str,
    bytes: repr,
    UUID: lambda value: f"UUID({value})",
    Decimal: lambda value: f"Decimal({value})",
    date: lambda value: f"date({value.isoformat()})",
    datetime: _datetime,
    time: _time,
    timedelta: _timedelta,
    tuple: _tuple,
    frozenset: _frozenset,
}


def _text_of_object(value: Any) -> str:
    kind = type(value)
    if isinstance(value, type):
        return f"type({name_of(value)})"
    if isinstance(value, Flag):
        return f"{name_of(kind)}({_int(value.value)})"
    if isinstance(value, Enum):
        return f"{name_of(kind)}({value.name if value.name.isidentifier() else quoted(value.name)})"
    if inspect.getattr_static(value, CACHE_KEY, None) is not None:
        return f"{name_of(kind)}({_own_key(value)})"
    if dataclasses.is_dataclass(kind):
        if not getattr(kind, "__dataclass_params__").frozen:  # noqa: B009 - typeshed does not know it
            raise Unkeyable(f"{kind.__qualname__} is a dataclass that can change: make it frozen=True")
        return _fields(value, [field.name for field in dataclasses.fields(kind) if field.compare])
    if isinstance(value, Struct):
        if not value.__struct_config__.frozen:
            raise Unkeyable(f"{kind.__qualname__} is a Struct that can change: make it frozen=True")
        return _fields(value, value.__struct_fields__)
    if isinstance(value, tuple) and (names := getattr(kind, "_fields", None)) is not None:
        return _fields(value, names)
    raise Unkeyable(_why_not(kind))


def _fields(value: object, names: Any) -> str:
    return f"{name_of(type(value))}({','.join(f'{name}={text_of(getattr(value, name))}' for name in names)})"


def _own_key(value: Any) -> str:
    key = getattr(value, CACHE_KEY)
    if callable(key) and not isinstance(key, type):
        key = key()
    if inspect.iscoroutine(key):
        key.close()
        raise Unkeyable(f"{CACHE_KEY} of {type(value).__qualname__} is async: a key is made without waiting")
    try:
        return text_of(key)
    except Unkeyable as error:
        raise Unkeyable(f"{CACHE_KEY} of {type(value).__qualname__} cannot be used: {error}") from None


def _why_not(kind: type) -> str:
    for mutable, instead in _INSTEAD.items():
        if issubclass(kind, mutable):
            return f"a {kind.__qualname__} can change: pass {instead}"
    for plain in (str, int, float, bytes, datetime, date, Decimal, UUID, tuple, frozenset):
        if issubclass(kind, plain):
            return f"{kind.__qualname__} is a kind of {plain.__name__} that may hold more: pass a plain {plain.__name__}"
    return f"a {kind.__qualname__} does not say what it stands for"
