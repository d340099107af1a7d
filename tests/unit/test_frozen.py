"""Only what nobody can change is shared."""

import dataclasses
import datetime as dt
import enum
import functools
import re
from collections import namedtuple
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, List, Literal, NamedTuple, NewType, Optional, Tuple, TypedDict, TypeVar  # noqa: UP035
from uuid import UUID

import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType

from forebay.codecs.frozen import is_frozen, is_frozen_value

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Mode(enum.IntFlag):
    READ = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: "float | None" = None
    kind: ClassVar[list[int]] = []


@dataclasses.dataclass(frozen=True)
class Line:
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class Bag:
    items: list[int]


@dataclasses.dataclass(frozen=True)
class Deep:
    bags: tuple[Bag, ...]


@dataclasses.dataclass
class Open:
    x: int


@dataclasses.dataclass(frozen=True)
class Memo:
    x: int

    @functools.cached_property
    def listed(self) -> list[int]:
        return [self.x]


@dataclasses.dataclass(frozen=True)
class Lost:
    x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class Struct(msgspec.Struct, frozen=True):
    id: int
    at: dt.datetime | None = None


class OpenStruct(msgspec.Struct):
    id: int


class HoldsOpen(msgspec.Struct, frozen=True):
    inner: OpenStruct


class Node(msgspec.Struct, frozen=True):
    value: int
    next: "Node | None" = None


class Tree(msgspec.Struct, frozen=True):
    value: Any
    children: "tuple[Tree, ...]" = ()


@dataclasses.dataclass(frozen=True)
class Ping:
    pong: "Pong | None"


@dataclasses.dataclass(frozen=True)
class Pong:
    ping: Ping | None
    items: list[int]


class Box(msgspec.Struct, Generic[T], frozen=True):
    item: T
    more: tuple[T, ...] = ()


class Boxes(msgspec.Struct, Generic[T], frozen=True):
    box: Box[tuple[T, int]]


class BoxOfLists(Box[list[T]], Generic[T], frozen=True):
    """Its item is a list of T: the T of Box is not the T of this class."""


@dataclasses.dataclass(frozen=True)
class Crate(Generic[T]):
    item: T


@dataclasses.dataclass(frozen=True)
class CrateOfLists(Crate[list[T]], Generic[T]):
    pass


class PointWithAttributes(Point):
    pass


@dataclasses.dataclass(frozen=True)
class NamedList(list[int]):
    name: str


class Pair(NamedTuple):
    one: int
    two: str


class OpenPair(NamedTuple):
    one: list[int]


class PairWithAttributes(Pair):
    pass


class Row(TypedDict):
    id: int


class Model(pydantic.BaseModel, frozen=True):
    id: int
    tags: tuple[str, ...] = ()
    parent: "Model | None" = None


class ModelWithList(pydantic.BaseModel, frozen=True):
    tags: list[str]


class OpenModel(pydantic.BaseModel):
    id: int


class FrozenFields(pydantic.BaseModel):
    id: int = pydantic.Field(frozen=True)


class Extra(pydantic.BaseModel, frozen=True, extra="allow"):
    id: int


class Private(pydantic.BaseModel, frozen=True):
    id: int
    _seen: list[int] = pydantic.PrivateAttr(default_factory=list)


class GenericModel(pydantic.BaseModel, Generic[T], frozen=True):
    item: T


class Text(str):
    pass


UserId = NewType("UserId", int)
UserIds = NewType("UserIds", list[int])
Alias = TypeAliasType("Alias", int | tuple[Point, ...])
OpenAlias = TypeAliasType("OpenAlias", int | list[Point])
GenericAlias = TypeAliasType("GenericAlias", tuple[T, ...], type_params=(T,))

FROZEN = [
    *(str, int, float, bool, bytes, type(None)),
    *(dt.datetime, dt.date, dt.time, dt.timedelta, UUID, Decimal, Colour, Mode),
    *(tuple[int, str], tuple[int, ...], tuple[()], Tuple[int, str], frozenset[str], tuple[frozenset[tuple[int, ...]], ...]),  # noqa: UP006
    *(Literal["a", 1], int | None, Optional[str], Annotated[int, msgspec.Meta(gt=0)], Annotated[int, []], UserId),  # noqa: UP045
    *(Point, Line, Struct, Node, Pair, Model, FrozenFields, tuple[Point, Struct, Model], Point | Struct | None),
    *(Box[int], Box[Point], Boxes[str], GenericModel[int], Alias, GenericAlias[int], Crate[int]),
]
OPEN = [
    *(None, list, dict, set, tuple, frozenset, List[int], list[int], dict[str, int], set[int], bytearray, memoryview),  # noqa: UP006
    *(Any, object, ..., "int", type, type[int], T, Sequence[int], Mapping[str, int], Text, msgspec.Raw),
    *(tuple[list[int], ...], tuple[Any, ...], frozenset[Any], int | list[int], Optional[dict[str, int]], Annotated[list[int], 1], UserIds),  # noqa: UP045
    *(Bag, Deep, Open, Memo, Lost, OpenStruct, HoldsOpen, Tree, Ping, Pong, OpenPair, PairWithAttributes, Row),
    *(namedtuple("Old", "a b"), ModelWithList, OpenModel, Extra, Private, GenericModel, GenericModel[list[int]]),  # noqa: PYI024
    *(Box, Box[Any], Box[list[int]], Box[Open], Boxes, Boxes[list[int]], OpenAlias, GenericAlias, GenericAlias[list[int]]),
    *(BoxOfLists[int], CrateOfLists[int], tuple[BoxOfLists[int], ...], Crate[list[int]], PointWithAttributes, NamedList),
]


@pytest.mark.parametrize("type_", FROZEN, ids=str)
def test_what_cannot_be_changed_is_frozen(type_):
    assert is_frozen(type_) is True


@pytest.mark.parametrize("type_", OPEN, ids=str)
def test_what_can_be_changed_is_not(type_):
    assert is_frozen(type_) is False


def test_a_type_that_holds_ever_larger_types_is_no_crash():
    class Grows(msgspec.Struct, Generic[T], frozen=True):
        next: "Grows[tuple[T, int]] | None" = None

    globals()["Grows"] = Grows
    try:
        assert is_frozen(Grows[int]) is False
    finally:
        del globals()["Grows"]


def test_what_is_called_open_can_indeed_be_changed():
    box = msgspec.json.decode(b'{"item":[1]}', type=BoxOfLists[int])
    box.item.append(2)  # type: ignore[attr-defined]
    assert box.item == [1, 2]
    point = PointWithAttributes(1)
    point.extra = []  # type: ignore[attr-defined]
    assert vars(point)["extra"] == []


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "text", b"bytes"])
def test_plain_scalars_are_frozen_values(value):
    assert is_frozen_value(value)


@pytest.mark.parametrize(
    "value",
    [[], {}, (), set(), Text("x"), bytearray(), object(), Colour.RED],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)
def test_all_else_is_not_known_to_be(value):
    assert not is_frozen_value(value)
