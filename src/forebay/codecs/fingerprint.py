"""What a stored payload says about its writer: eight bytes for codec, declared type and transforms, the same in every process.

The type counts by its name, not by its fields: a deployment that adds an optional field reads what the last one stored, and
whether the fields still fit is for the decoder to say.
"""

from __future__ import annotations

import enum
import hashlib
import re
import types
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

__all__ = ["fingerprint", "type_name"]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def fingerprint(codec: str, type_: Any, transforms: Iterable[str] = ()) -> bytes:
    """Return 8 bytes that differ for another *codec*, another name of *type_*, or other kinds of *transforms*."""
    said = "\0".join((codec, "" if type_ is None else type_name(type_), *transforms))
    return hashlib.sha256(said.encode("utf-8", "backslashreplace")).digest()[:8]


def type_name(type_: Any) -> str:
    """Return one spelling for each type: ``Optional[int]`` is ``int | None``, and ``List[X]`` is ``list[X]``.

    The members of unions and literals are sorted, for Python itself may give them in the order of an earlier, equal annotation;
    the metadata of ``Annotated`` is left out, for it may show addresses, and the decoder applies it.
    """
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Union or origin is types.UnionType:
        return " | ".join(sorted(map(type_name, arguments)))
    if origin is Literal:
        return f"Literal[{', '.join(sorted(map(_literal, arguments)))}]"
    if origin is not None and arguments:
        return f"{_qualified(origin)}[{', '.join(map(type_name, arguments))}]"
    if origin is not None:
        return _qualified(origin)
    if type_ is ...:
        return "..."
    return _qualified(type(None) if type_ is None else type_)


def _qualified(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(name, str):  # a TypeVar's or a forward reference's repr is its name; another object's may hold its address
        return _ADDRESS.sub("", repr(thing))
    return f"{getattr(thing, '__module__', '')}.{name}"


def _literal(value: Any) -> str:
    shown = value.name if isinstance(value, enum.Enum) else repr(value)
    return f"{_qualified(type(value))}:{shown}"
