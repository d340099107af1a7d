"""MessagePack carries what JSON does, and bytes as they are; what would come back as something else is refused."""

import dataclasses
import datetime as dt
import enum
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import EncodeError
from forebay.codecs.msgpack import MsgpackCodec, TypedMsgpackCodec, msgpack_codec_for
from forebay.errors import SettingsError

PLAIN = MsgpackCodec()

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


@given(values)
def test_plain_values_come_back_as_they_went_in(value):
    try:
        packed = PLAIN.encode(value)
    except EncodeError as error:
        assert "surrogate" in str(error)
        return
    assert repr(PLAIN.decode(packed)) == repr(value)  # NaN is not equal to itself; repr tells 0.0 from -0.0 and True from 1


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class User:
    id: int
    name: str
    photo: bytes = b""
    born: dt.date | None = None


class Frozen(msgspec.Struct, frozen=True):
    id: int
    tags: tuple[str, ...] = ()


class Row(TypedDict):
    id: int
    at: dt.datetime


class Model(pydantic.BaseModel):
    id: int


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        frozenset(),
        {1: "a"},
        {b"a": 1},
        {None: 1},
        bytearray(b"x"),
        memoryview(b"x"),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        UUID(int=1),
        Decimal("1.5"),
        User(1, "a"),
        Frozen(1),
        Model(id=1),
        Colour.RED,
        object(),
        msgspec.msgpack.Ext(5, b"x"),
        msgspec.Raw(b"\x01"),
        [{"deep": [1, (2,)]}],
        type("Str", (str,), {})("x"),
        type("Bytes", (bytes,), {})(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_something_else_is_refused_and_type_is_named(value):
    with pytest.raises(EncodeError, match="bytes alone .* type="):
        PLAIN.encode(value)


def test_the_refusal_names_the_place():
    with pytest.raises(EncodeError, match=r"value\['rows'\]\[1\]\['at'\] is of type date"):
        PLAIN.encode({"rows": [{}, {"at": dt.date(2026, 1, 1)}]})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, [2**70], "\ud800", {"\ud800": 1}], ids=ascii)
def test_what_messagepack_cannot_carry_is_refused(value):
    with pytest.raises(EncodeError):
        PLAIN.encode(value)


def test_a_value_that_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="nested"):
        PLAIN.encode(loop)


WHEN = dt.datetime(2026, 5, 4, 3, 2, 1, 654321, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (User, User(1, "Ada", b"\x00\xff", dt.date(1815, 12, 10))),
        (Frozen, Frozen(1, ("a", "b"))),
        (Row, {"id": 1, "at": WHEN}),
        (dt.datetime, WHEN),
        (dt.datetime, WHEN.replace(tzinfo=None)),
        (dt.date, WHEN.date()),
        (dt.time, WHEN.time()),
        (dt.timedelta, dt.timedelta(seconds=90, microseconds=5)),
        (UUID, UUID(int=7)),
        (Decimal, Decimal("12.3400")),
        (bytes, b"\x00\xff raw"),
        (Colour, Colour.RED),
        (int | None, None),
        (float, math.inf),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (list[User], [User(1, "a"), User(2, "b")]),
        (dict[int, Frozen], {1: Frozen(1)}),
        (dict[tuple[int, int], str], {(1, 2): "a"}),
    ],
    ids=str,
)
def test_declared_types_come_back_as_themselves(type_, value):
    codec = msgpack_codec_for(type_)
    back = codec.decode(codec.encode(value))
    assert repr(back) == repr(value)
    assert type(back) is type(value)


def test_nan_comes_back():
    assert math.isnan(msgpack_codec_for(float).decode(msgpack_codec_for(float).encode(math.nan)))


def test_an_aware_datetime_comes_back_as_the_same_instant_in_utc():
    codec = msgpack_codec_for(dt.datetime)
    local = WHEN.astimezone(dt.timezone(dt.timedelta(hours=2)))
    back = codec.decode(codec.encode(local))
    assert back == local
    assert back.tzinfo == dt.UTC


@given(
    st.builds(
        User, st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.none() | st.dates()
    )
)
def test_a_dataclass_comes_back(user):
    codec = msgpack_codec_for(User)
    assert codec.decode(codec.encode(user)) == user


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (User, User("not a number", "a")),  # type: ignore[arg-type]
        (User, {"id": 1}),
        (User, Frozen),
        (int, "1"),
        (int, None),
        (int, 2**64),
        (str, "\ud800"),
        (str, b"bytes"),
        (list[User], [None]),
        (Frozen, object()),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_a_value_that_is_not_of_the_type_is_refused(type_, value):
    with pytest.raises(EncodeError):
        msgpack_codec_for(type_).encode(value)


@pytest.mark.parametrize("type_", [..., "User", type("Plain", (), {}), complex, object], ids=str)
def test_a_type_that_cannot_be_stored_is_refused_at_once(type_):
    with pytest.raises(EncodeError, match="type="):
        msgpack_codec_for(type_)


@pytest.mark.parametrize("type_", [Model, list[Model], Model | None, dict[str, list[Model]]], ids=str)
def test_pydantic_models_are_refused_at_once_with_the_remedy(type_):
    with pytest.raises(SettingsError, match=r"codec='msgpack' .*Model.* 'json'"):
        msgpack_codec_for(type_)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81" * 100_000,
        b"\x81\x80\x01",
        b"\x81\x91\x80\x01",
        b"\xd4\x05\x01",
        b"\x91\xd4\x05\x01",
        b"\x81\xd4\x05\x01\x01",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xd9\x02\xff\xff",
        b"\x01\x01",
    ],
    ids=lambda data: repr(data[:12]),
)
@pytest.mark.parametrize("type_", [None, User, dict[str, int], set[int], dict[tuple[int, ...], int], Any], ids=str)
def test_hostile_bytes_fail_in_the_declared_way(type_, data):
    codec = msgpack_codec_for(type_)
    with pytest.raises(codec.failures) as caught:
        codec.decode(data)
    assert codec.explain(caught.value)


@given(st.binary(max_size=100))
def test_any_bytes_give_a_value_or_a_declared_failure(data):
    for type_ in (None, User, Frozen, dict[str, int], set[int], frozenset[bytes], dt.datetime, Decimal, dict[frozenset[int], int]):
        codec = msgpack_codec_for(type_)
        try:
            codec.decode(data)
        except codec.failures as failure:
            assert codec.explain(failure)


def test_truncation_at_every_length():
    for codec, value in ((PLAIN, {"a": [1, "b" * 40, b"c" * 300]}), (TypedMsgpackCodec(User), User(1, "Ada", b"x" * 300))):
        packed = codec.encode(value)
        for length in range(len(packed)):
            with pytest.raises(codec.failures):
                codec.decode(packed[:length])


def test_explanations_do_not_show_the_content():
    for type_, value in ((User, {"id": "secret", "name": "n"}), (Colour, "secret"), (list[Colour], ["secret"])):
        codec = msgpack_codec_for(type_)
        with pytest.raises(codec.failures) as caught:
            codec.decode(msgspec.msgpack.encode(value))
        assert "secret" not in codec.explain(caught.value)


def test_eight_threads_share_one_codec():
    codec = msgpack_codec_for(User)
    start = threading.Barrier(8)
    before = sys.getswitchinterval()

    def work(number):
        start.wait()
        for turn in range(400):
            user = User(number, f"{number}-{turn}" * (turn % 50), bytes([number]) * turn)
            assert codec.decode(codec.encode(user)) == user
            value = {"n": [number] * (turn % 20), "t": str(turn)}
            assert PLAIN.decode(PLAIN.encode(value)) == value
        return True

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
