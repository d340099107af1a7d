"""Every coding gives back what it was given, and turns any other bytes into one of its failures, with no step forgotten."""

import dataclasses
import datetime as dt
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Generic, List, Literal, NewType, Optional, TypeVar, Union  # noqa: UP035  # the old spellings are the test

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import EncodeError
from forebay.codecs.coding import coding_for
from forebay.codecs.compressed import train_dictionary
from forebay.codecs.fingerprint import fingerprint, type_name
from forebay.errors import DecodeError, SettingsError

T = TypeVar("T")

NAME = "shop:prod:user:42"
KEYS = [bytes(range(32)), bytes(range(1, 33))]
DICTIONARY = train_dictionary(
    [b'{"id": %d, "name": "user %d", "role": "member", "tags": ["a", "b"]}' % (i, i * 7919) for i in range(1000)], 2048
)


@dataclasses.dataclass
class User:
    id: int
    name: str = ""
    tags: tuple[str, ...] = ()


class Model(pydantic.BaseModel):
    id: int
    name: str = ""


class Nervous(msgspec.Struct):
    parts: dict[str, int]
    total: int = 0

    def __post_init__(self) -> None:
        self.total = self.parts["a"]  # a KeyError, which msgspec lets through


class Box(msgspec.Struct, Generic[T]):
    item: T


OPTIONS: dict[str, dict[str, Any]] = {
    "bare": {},
    "zstd": {"compress_above": 0},
    "dictionary": {"compress_above": 0, "dictionary": DICTIONARY},
    "seal": {"seal_keys": KEYS},
    "all": {"compress_above": 16, "dictionary": DICTIONARY, "seal_keys": KEYS},
    "mp": {"codec": "msgpack"},
    "mp all": {"codec": "msgpack", "compress_above": 16, "dictionary": DICTIONARY, "seal_keys": KEYS},
}
UNTYPED = {name: coding_for(None, **options) for name, options in OPTIONS.items()}
TYPED = {name: coding_for(User, **options) for name, options in OPTIONS.items()}

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("which", OPTIONS)
@given(value=plain)
@settings(max_examples=60)
def test_what_goes_in_comes_out_through_every_combination(which, value):
    coding = UNTYPED[which]
    back = coding.decode(coding.encode(value, NAME), NAME)
    assert repr(back) == repr(value)


@pytest.mark.parametrize("which", OPTIONS)
def test_typed_values_too(which):
    coding = TYPED[which]
    value = User(1, "Ada " * 50, ("x",))
    assert coding.decode(coding.encode(value, NAME), NAME) == value


def test_bare_is_json_and_nothing_else():
    coding = coding_for(dict[str, int])
    assert coding.bare
    assert coding.encode({"a": 1}, NAME) == b'{"a":1}'
    assert coding.decode_bare(b'{"a":2}') == {"a": 2}
    assert [name for name, coding in UNTYPED.items() if coding.bare] == ["bare"]


# --- foreign and hostile bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", OPTIONS)
@pytest.mark.parametrize("reader", OPTIONS)
@pytest.mark.parametrize("value", [User(1, "Ada", ("x",)), User(2, "Ada " * 100)], ids=["small", "large"])
def test_codings_that_do_not_match_fail_in_the_declared_way(writer, reader, value):
    packed = TYPED[writer].encode(value, NAME)
    codec_failures = (*TYPED[reader]._codec.failures, DecodeError)  # narrower than what is declared for a class of the application
    try:
        back = TYPED[reader].decode(packed, NAME)
    except codec_failures as failure:
        assert TYPED[reader].explain(failure)
        assert "Ada" not in TYPED[reader].explain(failure)
    else:
        assert back == value  # the same steps, or a marker that says that they were not needed


def test_a_reader_without_the_step_never_takes_the_bytes_for_a_value():
    value = {"a": "b" * 100}
    for writer, reader in [
        ("zstd", "bare"),
        ("seal", "bare"),
        ("all", "zstd"),
        ("mp", "bare"),
        ("bare", "mp"),
        ("zstd", "seal"),
        ("mp all", "all"),
    ]:
        with pytest.raises(UNTYPED[reader].failures):
            UNTYPED[reader].decode(UNTYPED[writer].encode(value, NAME), NAME)


@pytest.mark.parametrize("which", OPTIONS)
@given(data=st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_give_a_value_or_a_declared_failure(which, data):
    for coding in (UNTYPED[which], TYPED[which]):
        try:
            coding.decode(data, NAME)
        except (*coding._codec.failures, DecodeError) as failure:
            assert isinstance(failure, coding.failures)
            assert coding.explain(failure)


CLOSED_TYPES = [
    int,
    float,
    str,
    bytes,
    list[int],
    dict[str, float],
    tuple[int, str],
    set[int],
    frozenset[str],
    dt.datetime,
    dt.timedelta,
    int | None,
]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@given(data=st.binary(max_size=60) | st.text(max_size=40).map(lambda text: f'"{text}"'.encode("utf-8", "surrogatepass")))
@settings(max_examples=150)
def test_closed_types_declare_exactly_what_they_raise(codec, data):
    for type_ in CLOSED_TYPES:
        coding = coding_for(type_, codec=codec)
        assert Exception not in coding.failures
        try:
            coding.decode(data, NAME)
        except coding.failures as failure:
            assert coding.explain(failure)


@pytest.mark.parametrize("which", OPTIONS)
def test_truncation_at_every_length(which):
    for coding, value in ((UNTYPED[which], {"k": ["v" * 40, 1, None]}), (TYPED[which], User(1, "Ada " * 20))):
        packed = coding.encode(value, NAME)
        for length in range(len(packed)):
            with pytest.raises((*coding._codec.failures, DecodeError)):
                coding.decode(packed[:length], NAME)
        with pytest.raises((*coding._codec.failures, DecodeError)):
            coding.decode(packed + b"\x00", NAME)


@pytest.mark.parametrize("which", ["seal", "all", "mp all"])
def test_no_flipped_bit_of_a_sealed_value_passes(which):
    coding = TYPED[which]
    packed = coding.encode(User(1, "Ada"), NAME)
    for position in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(DecodeError):
            coding.decode(bytes(changed), NAME)


@pytest.mark.parametrize("which", ["zstd", "dictionary"])
def test_a_flipped_bit_of_a_compressed_value_never_crashes(which):
    coding = TYPED[which]
    value = User(1, "Ada " * 40)
    packed = coding.encode(value, NAME)
    for position in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[position // 8] ^= 1 << position % 8
        try:
            back = coding.decode(bytes(changed), NAME)
        except (*coding._codec.failures, DecodeError):
            continue
        assert back == value  # a bit that zstd does not look at


def test_what_a_type_of_the_application_raises_is_declared_and_not_shown():
    coding = coding_for(Nervous)
    with pytest.raises(coding.failures) as caught:
        coding.decode(b'{"parts": {"secret": 1}}', NAME)
    assert isinstance(caught.value, KeyError)
    assert coding.explain(caught.value) == "KeyError"


class NervousBox(msgspec.Struct, Generic[T]):
    parts: dict[str, T]

    def __post_init__(self) -> None:
        self.parts["a"]


@dataclasses.dataclass
class NervousPair(Generic[T]):
    parts: dict[str, T]

    def __post_init__(self) -> None:
        self.parts["a"]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("type_", [NervousBox[int], NervousPair[int], list[NervousBox[int]], NervousBox[int] | None], ids=str)
def test_a_generic_class_of_the_application_is_its_own_code_whatever_it_holds(codec, type_):
    coding = coding_for(type_, codec=codec)
    value = {"parts": {"secret": 1}}
    packed = (msgspec.json if codec == "json" else msgspec.msgpack).encode([value] if type_ == list[NervousBox[int]] else value)
    with pytest.raises(coding.failures) as caught:
        coding.decode(packed, NAME)
    assert isinstance(caught.value, KeyError)
    assert coding.explain(caught.value) == "KeyError"


@pytest.mark.parametrize("type_", [int | None, Optional[int], list[int | None], tuple[()]], ids=str)  # noqa: UP045
def test_unions_and_empty_tuples_of_closed_types_are_closed(type_):
    assert Exception not in coding_for(type_).failures


class Picky(pydantic.BaseModel):
    id: int

    @pydantic.model_validator(mode="after")
    def known(self) -> "Picky":
        raise KeyError("secret")


class Unset(msgspec.Struct):
    one: int


def without_a_field():
    value = Unset(1)
    del value.one
    return value


@pytest.mark.parametrize(
    ("type_", "codec", "value", "raised"),
    [
        (Nervous, "json", {"parts": {"secret": 1}}, KeyError),
        (Nervous, "msgpack", {"parts": {"secret": 1}}, KeyError),
        (NervousBox[int], "json", {"parts": {"secret": 1}}, KeyError),
        (Picky, "json", {"id": 1}, KeyError),
        (Unset, "json", without_a_field(), AttributeError),
        (Unset, "msgpack", without_a_field(), AttributeError),
    ],
    ids=["struct", "struct msgpack", "generic", "model", "unset", "unset msgpack"],
)
def test_what_the_types_own_code_raises_on_the_way_in_is_a_refusal(type_, codec, value, raised):
    with pytest.raises(
        EncodeError, match=rf"for '{NAME}' cannot be stored: .* raised {raised.__name__} .*return the declared type"
    ) as caught:
        coding_for(type_, codec=codec).encode(value, NAME)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, raised)


class Plain:
    pass


@pytest.mark.parametrize("type_", [dict[str, Model | Plain], list[tuple[Model, Plain]], Box[Model]], ids=str)
def test_a_type_that_pydantic_cannot_store_is_refused_at_once(type_):
    with pytest.raises(EncodeError, match="cannot be stored as JSON: ") as caught:
        coding_for(type_)
    assert "\n" not in str(caught.value)


class Inner(pydantic.BaseModel, extra="forbid"):
    count: int = pydantic.Field(validation_alias=pydantic.AliasChoices("howMany", pydantic.AliasPath("counts", 0)), default=0)
    labels: dict[str, int] = {}


class Outer(pydantic.BaseModel):
    metadata: Inner | None = None
    rows: list[Inner] = []
    by_id: dict[int, Inner] = {}


@pytest.mark.parametrize(
    ("type_", "packed", "explained"),
    [
        (dict[str, Inner], b'{"secret": {"howMany": "x"}}', "*.howMany: int_parsing"),
        (Inner, b'{"secret": 1}', "*: extra_forbidden"),
        (Inner, b'{"labels": {"secret": "x"}}', "labels.*: int_parsing"),
        (Outer, b'{"metadata": {"howMany": "x"}}', "metadata.howMany: int_parsing"),
        (Outer, b'{"rows": [{}, {"labels": {"secret": "x"}}]}', "rows.1.labels.*: int_parsing"),
        (Outer, b'{"by_id": {"4242": {"howMany": "x"}}}', "by_id.*.howMany: int_parsing"),
        (Outer, b"[]", "$: model_type"),
        (dict[int, Model], b'{"secret": {"id": 1}}', "*.*: int_parsing"),
    ],
    ids=["dict key", "extra field", "dict in a model", "field named metadata", "list", "number as key", "root", "key itself"],
)
def test_explanations_of_models_name_fields_and_positions_and_no_keys(type_, packed, explained):
    coding = coding_for(type_)
    with pytest.raises(coding.failures) as caught:
        coding.decode(packed, NAME)
    assert coding.explain(caught.value) == coding.explain(caught.value) == explained


def test_a_message_of_the_types_own_code_is_not_shown():
    @dataclasses.dataclass
    class Loud:
        id: str

        def __post_init__(self) -> None:
            raise ValueError(f"no such id: {self.id}")

    for codec in ("json", "msgpack"):
        coding = coding_for(Loud, codec=codec)
        packed = b'{"id":"secret"}' if codec == "json" else msgspec.msgpack.encode({"id": "secret"})
        with pytest.raises(coding.failures) as caught:
            coding.decode(packed, NAME)
        assert coding.explain(caught.value) == "refused by the type itself with ValueError"


@pytest.mark.parametrize(
    ("type_", "packed"),
    [
        (Literal["a"], b'"secret"'),
        (list[Literal["a"]], b'["secret"]'),
        (msgspec.defstruct("Strict", [("x", int, 0)], forbid_unknown_fields=True), b'{"secret":1}'),
        (Model, b'{"id":"secret"}'),
        (dict[str, int], b'{"secret":"secret"}'),
    ],
    ids=str,
)
def test_explanations_do_not_show_what_was_read(type_, packed):
    coding = coding_for(type_)
    with pytest.raises(coding.failures) as caught:
        coding.decode(packed, NAME)
    assert "secret" not in coding.explain(caught.value)
    assert coding.explain(caught.value)


# --- sizes and options --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", OPTIONS)
def test_a_value_that_is_too_large_is_refused_with_the_sizes_and_the_setting(which):
    coding = coding_for(str, **OPTIONS[which], max_bytes=1000)
    coding.encode("x" * 990, NAME)
    with pytest.raises(EncodeError, match=r"takes 10\d\d bytes, and max_bytes=1000 .*raise max_bytes="):
        coding.encode("x" * 1000, NAME)


@pytest.mark.parametrize("which", OPTIONS)
def test_the_largest_value_that_is_written_is_read(which):
    coding = coding_for(str, **OPTIONS[which], max_bytes=1003)
    value = "x" * (1001 if "mp" not in which else 1000)
    assert coding.decode(coding.encode(value, NAME), NAME) == value


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"codec": "yaml"}, "codec='yaml'"),
        ({"codec": None}, "codec=None"),
        ({"compress_above": -1}, "compress_above=-1"),
        ({"compress_above": True}, "compress_above=True"),
        ({"compress_above": "1k"}, "compress_above='1k'"),
        ({"dictionary": DICTIONARY}, "compress_above="),
        ({"compress_above": 1, "dictionary": b"no dictionary"}, "dictionary=.*train_dictionary"),
        ({"compress_above": 1, "dictionary": b""}, "dictionary=.*train_dictionary"),
        ({"compress_above": 1, "dictionary": DICTIONARY[:8] + bytes(100)}, "dictionary=.*train_dictionary"),
        ({"compress_above": 1, "dictionary": "text"}, "dictionary= is a str"),
        ({"seal_keys": "a" * 43}, "seal_keys= is not a list"),
        ({"seal_keys": bytes(32)}, "seal_keys= is not a list"),
        ({"seal_keys": None}, "seal_keys= is not a list"),
        ({"seal_keys": [b"short"]}, r"seal_keys\[0\].*new_sealing_key"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"max_bytes": 1.5}, r"max_bytes=1\.5"),
        ({"max_bytes": True}, "max_bytes=True"),
        ({"max_bytes": 2**40}, "max_bytes="),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_option_is_named_with_its_remedy(options, says):
    with pytest.raises(SettingsError, match=says):
        coding_for(None, **options)


@pytest.mark.parametrize(
    ("options", "hidden", "says"),
    [
        ({"compress_above": 1}, ("backports.zstd", "compression.zstd"), "forebay[zstd]"),
        ({"seal_keys": KEYS}, ("cryptography.hazmat.primitives.ciphers.aead",), "forebay[crypto]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, options, hidden, says):
    import backports

    monkeypatch.delattr(backports, "zstd", raising=False)
    for module in hidden:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError) as caught:
        coding_for(None, **options)
    assert says in str(caught.value)


def test_extras_are_imported_on_use_alone():
    program = (
        "import sys; from forebay.codecs.coding import coding_for; coding_for(None); coding_for(dict[str, int], codec='msgpack');"
        "print([name for name in ('cryptography', 'backports.zstd', 'pydantic') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_reprs_show_the_steps_and_no_secrets():
    shown = repr(coding_for(User, **OPTIONS["all"]))
    assert shown.startswith("Coding(json + zstd + aes-256-gcm, ")
    assert "User" in shown
    key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
    coding = coding_for(None, seal_keys=[key])
    assert key[:10] not in repr(coding) + repr(coding._sealer)


# --- the fingerprint ----------------------------------------------------------------------------------------------------------------------

UserId = NewType("UserId", int)


def test_the_fingerprint_tells_codec_type_and_steps_apart():
    made = [
        coding_for(type_, **options).fingerprint
        for type_ in (None, int, User, list[User], Box[int], Box[str])
        for options in OPTIONS.values()
    ]
    assert all(len(one) == 8 for one in made)
    assert len(set(made)) == 6 * (len(OPTIONS) - 1)  # with and without a dictionary are the same: the marker tells


def test_the_fingerprint_outlives_thresholds_keys_and_limits():
    one = coding_for(User, compress_above=1, seal_keys=KEYS, max_bytes=100)
    other = coding_for(User, compress_above=9, dictionary=DICTIONARY, seal_keys=KEYS[1:])
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Optional[int], int | None),  # noqa: UP045
        (Union[int, str], str | int),  # noqa: UP007
        (List[User], list[User]),  # noqa: UP006
        (list[Union[int, str]], list[Union[str, int]]),  # noqa: UP007
        (Literal["a", "b"], Literal["b", "a"]),
        (Annotated[int, object()], int),
        (dict[str, Annotated[int, lambda: 0]], dict[str, int]),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)
def test_one_type_has_one_name(one, other):
    assert fingerprint("json", one) == fingerprint("json", other)


def test_types_have_readable_names():
    assert type_name(list[User]) == f"builtins.list[{__name__}.User]"
    assert type_name(UserId) == f"{__name__}.UserId"
    assert type_name(tuple[int, ...]) == "builtins.tuple[builtins.int, ...]"
    assert " at 0x" not in type_name(object())
    assert type_name(Literal[1]) != type_name(Literal["1"]) != type_name(Literal[True])


def test_the_fingerprint_is_the_same_in_every_process():
    program = (
        "import datetime, typing; from forebay.codecs.coding import coding_for;"
        "print([coding_for(t).fingerprint.hex() for t in (None, dict[str, datetime.date | int | None], typing.Literal['x', 'y', 'z'])])"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1
    assert coding_for(None).fingerprint.hex() in runs.pop()
    assert coding_for(None).fingerprint.hex() == "ea89242c15429524"  # another one would turn every stored entry into a miss


# --- threads ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", OPTIONS)
def test_eight_threads_share_one_coding(which):
    coding = TYPED[which]
    start = threading.Barrier(8)
    before = sys.getswitchinterval()

    def work(number):
        start.wait()
        for turn in range(150):
            value = User(number, f"{number}-{turn} " * (1 + turn * 7 % 90), (str(turn),) * (turn % 5))
            name = f"user:{number}:{turn}"
            assert coding.decode(coding.encode(value, name), name) == value
            with pytest.raises((*coding._codec.failures, DecodeError)):
                coding.decode(coding.encode(value, name)[:-1], name)
        return True

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
