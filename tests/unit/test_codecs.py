"""What goes in comes out, or nothing is stored: for JSON's own types, for declared types, for pydantic models."""

import dataclasses
import datetime as dt
import enum
import math
from decimal import Decimal
from typing import TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import EncodeError
from forebay.codecs.codec import codec_for

JSON = codec_for(None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


def same(one, other):
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and (not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other))


@given(json_values)
def test_json_gives_back_what_it_was_given(value):
    try:
        packed = JSON.encode(value)
    except EncodeError as error:
        assert "surrogate" in str(error)
        return
    assert same(JSON.decode(packed), value)


class Colour(enum.StrEnum):
    RED = "red"


class Count(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class User:
    id: int
    name: str
    born: dt.date | None = None


class Frozen(msgspec.Struct, frozen=True):
    id: int
    tags: tuple[str, ...] = ()


class Measured(msgspec.Struct):
    value: float | None


class Score(pydantic.BaseModel):
    value: float | None


class Row(TypedDict):
    id: int
    at: dt.datetime


class Model(pydantic.BaseModel):
    id: int
    email: str
    at: dt.datetime | None = None


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        frozenset(),
        {1: "a"},
        {None: 1},
        b"bytes",
        dt.datetime(2026, 1, 1),
        UUID(int=1),
        Decimal("1.5"),
        User(1, "a"),
        Frozen(1),
        Model(id=1, email="e"),
        Colour.RED,
        Count.ONE,
        object(),
        [{"deep": [1, (2,)]}],
        {"a": {"b": {3}}},
        type("Str", (str,), {})("x"),
        type("Dict", (dict,), {})(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_refuses_what_would_come_back_as_something_else_and_names_type(value):
    with pytest.raises(EncodeError, match="type="):
        JSON.encode(value)


def test_the_refusal_names_the_place():
    with pytest.raises(EncodeError, match=r"value\['rows'\]\[1\]\['at'\] is of type datetime"):
        JSON.encode({"rows": [{}, {"at": dt.datetime(2026, 1, 1)}]})
    with pytest.raises(EncodeError, match=r"value\['a'\] holds a dict key of type int"):
        JSON.encode({"a": {1: 2}})


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": math.nan}, "\ud800", ["\ud800"], {"\ud800": 1}], ids=ascii)
def test_json_refuses_what_json_cannot_carry(value):
    with pytest.raises(EncodeError):
        JSON.encode(value)


def test_json_refuses_a_value_that_contains_itself():
    loop: list = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="nested"):
        JSON.encode(loop)


WHEN = dt.datetime(2026, 5, 4, 3, 2, 1, 654321, tzinfo=dt.UTC)


class Aliased(pydantic.BaseModel):
    user_id: int = pydantic.Field(alias="userId")

    @pydantic.computed_field
    def twice(self) -> int:
        return 2 * self.user_id


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Aliased, Aliased(userId=4)),
        (User, User(1, "Ada", dt.date(1815, 12, 10))),
        (Frozen, Frozen(1, ("a", "b"))),
        (Row, {"id": 1, "at": WHEN}),
        (dt.datetime, WHEN),
        (dt.date, WHEN.date()),
        (dt.timedelta, dt.timedelta(seconds=90, microseconds=5)),
        (UUID, UUID(int=7)),
        (Decimal, Decimal("12.3400")),
        (bytes, b"\x00\xff raw"),
        (Colour, Colour.RED),
        (int | None, None),
        (Score, Score(value=None)),
        (Measured, Measured(None)),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (list[User], [User(1, "a"), User(2, "b")]),
        (dict[int, Frozen], {1: Frozen(1)}),
        (Model, Model(id=1, email="e", at=WHEN)),
        (list[Model], [Model(id=1, email="e")]),
        (dict[str, Model | None], {"a": Model(id=1, email="e"), "b": None}),
        (Model | None, None),
    ],
    ids=str,
)
def test_declared_types_come_back_as_themselves(type_, value):
    codec = codec_for(type_)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (User, User("not a number", "a")),  # type: ignore[arg-type]
        (User, {"id": 1}),
        (User, Frozen),
        (int, "1"),
        (int, None),
        (float, math.nan),
        (float | None, math.nan),
        (Measured, Measured(math.inf)),
        (list[Measured], [Measured(None), Measured(-math.inf)]),
        (dict[str, float | None], {"a": math.nan}),
        (str, "\ud800"),
        (Model, {"id": "x"}),
        (Model, Model.model_construct(id="x", email="e")),
        (Model, Frozen),
        (list[Model], [None]),
        (Score, Score(value=math.nan)),
        (Score, {"value": math.inf}),
        (list[Score], [Score(value=None), Score(value=-math.inf)]),
    ],
    ids=str,
)
def test_a_value_that_is_not_of_the_type_is_refused(type_, value):
    with pytest.raises(EncodeError):
        codec_for(type_).encode(value)


@pytest.mark.parametrize(
    ("type_", "value", "hit"), [(User, {"id": 1, "name": "a"}, User(1, "a")), (Model, {"id": "1", "email": "e"}, Model(id=1, email="e"))]
)
def test_what_fits_the_type_is_converted_as_a_hit_would_be(type_, value, hit):
    codec = codec_for(type_)
    assert codec.decode(codec.encode(value)) == hit


@pytest.mark.parametrize("type_", [..., "User", type("Plain", (), {}), complex], ids=str)
def test_a_type_that_cannot_be_stored_is_refused_at_once(type_):
    with pytest.raises(EncodeError, match="type="):
        codec_for(type_)


@pytest.mark.parametrize("type_", [None, User, Model, list[Model]], ids=str)
@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"\x01envelope", b'{"id": "secret-value"}{', b"[" * 100_000], ids=lambda data: repr(data[:10])
)
def test_bytes_that_cannot_be_read_fail_in_the_declared_way_and_are_not_shown(type_, data):
    codec = codec_for(type_)
    with pytest.raises(codec.failures) as caught:
        codec.decode(data)
    assert "secret-value" not in codec.explain(caught.value)
    assert codec.explain(caught.value)


def test_explanations_name_the_place_and_not_the_content():
    for type_ in (User, Model):
        codec = codec_for(type_)
        with pytest.raises(codec.failures) as caught:
            codec.decode(b'{"id": "secret-value", "name": "n", "email": "e"}')
        assert "id" in codec.explain(caught.value)
        assert "secret-value" not in codec.explain(caught.value)


def test_pydantic_is_imported_only_for_its_models():
    import subprocess
    import sys

    program = (
        "import sys, datetime; from forebay.codecs.codec import codec_for; "
        "codec_for(datetime.datetime); codec_for(list[int]); print('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "False"
