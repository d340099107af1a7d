"""Keys made of arguments: equal keys mean equal values of equal types, read back by a reader that knows the grammar alone."""

import ast
import dataclasses
import enum
import inspect
import os
import re
import subprocess
import sys
import typing
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct

from forebay import InvalidKey
from forebay.cache.arguments import Unkeyable, bare_text_of, shortened, text_of
from forebay.cache.callkey import CallKey
from forebay.keys import Namespace

HERE = __name__
ID = UUID("12345678-1234-5678-1234-567812345678")


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object = 0


class Pair(Struct, frozen=True):
    x: object
    y: object = 0


class Row(typing.NamedTuple):
    x: object
    y: object = 0


class Tenant:
    def __init__(self, name):
        self.name = name

    def __cache_key__(self):
        return self.name


class Shop:
    __cache_key__ = None  # says nothing


# A tree of each value, made here without any text; and a reader that makes it of the text. If they agree, no two values share a text.

KINDS = {Point: "Point", Pair: "Pair", Row: "Row"}


def tree(value):
    kind = type(value)
    if kind is str:
        return ("text", value)
    if kind is bytes:
        return ("bytes", value)
    if kind is tuple:
        return ("tuple", *map(tree, value))
    if kind is frozenset:
        return ("frozenset", frozenset(map(tree, value)))
    if kind in KINDS:
        return ("fields", f"{HERE}.{KINDS[kind]}", ("x", tree(value.x)), ("y", tree(value.y)))
    if isinstance(value, enum.Enum):
        return ("fields", f"{HERE}.{kind.__name__}", ("atom", str(value.value) if isinstance(value, Right) else value.name))
    if kind is float or kind is int or kind is bool or value is None:
        return ("atom", repr(value))
    if kind is timedelta:
        return ("fields", "timedelta", *(("atom", str(part)) for part in (value.days, value.seconds, value.microseconds)))
    if kind is datetime:
        zone = [tree(value.tzinfo.key)] if isinstance(value.tzinfo, ZoneInfo) else []
        return ("fields", "datetime", ("atom", value.isoformat()), *zone, *[("atom", "fold")] * value.fold)
    if kind is time:
        return ("fields", "time", ("atom", value.isoformat()), *[("atom", "fold")] * value.fold)
    if kind is date:
        return ("fields", "date", ("atom", value.isoformat()))
    return ("fields", kind.__name__, ("atom", str(value)))


class Reader:
    QUOTED = re.compile(r"b?'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\"")
    ATOM = re.compile(r"[^(),='\"\[\]{}]+")

    def __init__(self, text):
        self.text = text
        self.at = 0

    def take(self, pattern):
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def sees(self, mark):
        if self.text[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True

    def items(self):
        found = []
        if self.sees(")"):
            return found
        while True:
            found.append(self.value())
            if self.sees(")"):
                return found
            assert self.sees(",")

    def value(self):
        if self.sees("("):
            return ("tuple", *self.items())
        quoted = self.take(self.QUOTED)
        if quoted is not None:
            value = ast.literal_eval(quoted)
            return ("bytes" if quoted[0] == "b" else "text", value)
        atom = self.take(self.ATOM)
        assert atom is not None
        if self.sees("="):
            return (atom, self.value())
        if not self.sees("("):
            return ("atom", atom)
        items = self.items()
        return ("frozenset", frozenset(items)) if atom == "frozenset" else ("fields", atom, *items)


def read(text):
    reader = Reader(text)
    value = reader.value()
    assert reader.at == len(text)
    return value


NASTY = st.text("'\\\"(),=[]{}:-~b1ex\n\x7f\ud800#é", max_size=4)
ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=1)), ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Berlin")])
FIXED = [True, False, None, 0, 1, 0.0, 1.0, "1", "None", "True", "", b"1", b"'", "b'1'", ID, str(ID), date(2026, 5, 4), "2026-05-04"]
SCALARS = st.one_of(
    st.sampled_from([*FIXED, *Colour, *Level, *Right, "inf", float("inf"), "nan", Decimal(1), Decimal("1.0"), timedelta(1)]),
    NASTY,
    st.text(),
    st.integers(),
    st.floats(allow_nan=False),
    st.binary(max_size=5),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=ZONES),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
)


def made_of(values):
    return st.one_of(
        st.lists(values, max_size=3).map(tuple),
        st.frozensets(values, max_size=3),
        *(st.builds(kind, values, values) for kind in KINDS),
    )


VALUES = st.recursive(SCALARS, made_of, max_leaves=6)


@given(VALUES)
def test_a_text_reads_back_as_its_value(value):
    assert read(text_of(value)) == tree(value)


@given(VALUES)
def test_a_text_can_be_part_of_a_key(value):
    assert Namespace("", "n").name("x" + shortened(text_of(value)))


SPELLED = [
    ("Ada", "'Ada'"),
    ("it's \\ \n", r"'it\'s \\ \u000a'"),
    (b"it's", 'b"it\'s"'),
    (-7, "-7"),
    (10**400, hex(10**400) if (10**400).bit_length() > 4096 else str(10**400)),
    (1.5, "1.5"),
    (Decimal("1.50"), "Decimal(1.50)"),
    (ID, f"UUID({ID})"),
    (date(2026, 5, 4), "date(2026-05-04)"),
    (datetime(2026, 5, 4, tzinfo=UTC), "datetime(2026-05-04T00:00:00+00:00)"),
    (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1), "datetime(2026-10-25T02:30:00+01:00,'Europe/Paris',fold)"),
    (timedelta(1, 2), "timedelta(1,2,0)"),
    ((1,), "(1)"),
    (frozenset({"b", "a"}), "frozenset('a','b')"),
    (Colour.RED, f"{HERE}.Colour(RED)"),
    (Right.READ | Right.WRITE, f"{HERE}.Right(3)"),
    (Point(1, (2,)), f"{HERE}.Point(x=1,y=(2))"),
    (Pair("x"), f"{HERE}.Pair(x='x',y=0)"),
    (Row(1), f"{HERE}.Row(x=1,y=0)"),
    (Tenant("a"), f"{HERE}.Tenant('a')"),
    (Tenant, f"type({HERE}.Tenant)"),
]


@pytest.mark.parametrize(("value", "text"), SPELLED, ids=[text[:30] for _, text in SPELLED])
def test_stored_keys_keep_their_spelling(value, text):
    assert text_of(value) == text


@dataclasses.dataclass
class Loose:
    x: int = 0


class LooseStruct(Struct):
    x: int = 0


class Text(str):
    __slots__ = ()


class Waits:
    async def __cache_key__(self):
        return 1


REFUSED = [
    ([1], "list can change: pass a tuple"),
    ({}, "dict can change: pass a tuple of pairs"),
    ({1}, "set can change: pass a frozenset"),
    (bytearray(), "bytearray can change: pass bytes"),
    (Loose(), "make it frozen=True"),
    (LooseStruct(), "make it frozen=True"),
    (Text("x"), "pass a plain str"),
    (object(), "does not say what it stands for"),
    (Shop(), "does not say what it stands for"),
    (Waits(), "is async"),
    (Tenant([1]), "__cache_key__ of Tenant cannot be used: a list"),
    ((1, [2]), "list can change"),
    (Point({}), "dict can change"),
]


@pytest.mark.parametrize(("value", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_has_no_text_says_why(value, why):
    with pytest.raises(Unkeyable, match=re.escape(why)):
        text_of(value)


# long keys


@given(st.lists(st.text(max_size=300), min_size=2, max_size=4), st.booleans())
@example(["x" * 240, "x" * 241], False)
@example(["é" * 120, "é" * 121], False)
def test_long_keys_stay_apart_and_short(texts, tail):
    keys = {("a" * 500 if tail else "") + text for text in texts if text.isprintable()}
    short = {shortened(key) for key in keys}
    assert len(short) == len(keys)
    assert all(len(key.encode()) <= 1024 for key in short)


def test_a_long_key_begins_readably():
    key = CallKey(Tenant.__cache_key__, ignore=("self",)).name + "x" * 400
    assert shortened(key).startswith(key[:200] + "~")
    assert len(shortened(key)) == 265


# calls


def profile(user_id, lang="en", /, limit=10, *rest, deep=False, **others):
    return user_id, lang, limit, rest, deep, others


@given(
    st.lists(st.integers(0, 2), max_size=5),
    st.dictionaries(st.sampled_from(["user_id", "lang", "limit", "deep", "x", "rest"]), st.integers(0, 2)),
)
def test_a_call_is_read_as_python_reads_it(args, kwargs):
    key = CallKey(profile)
    try:
        taken = profile(*args, **kwargs)  # not Signature.bind, which refuses f(1, a=2) for def f(a, /, **others)
    except TypeError:
        with pytest.raises(TypeError):
            key.arguments(tuple(args), kwargs)
        return
    names = ("user_id", "lang", "limit", "rest", "deep", "others")
    assert key.arguments(tuple(args), kwargs) == dict(zip(names, taken, strict=True))


def plain(a, b=2, *, c=3):
    return a, b, c


def test_every_spelling_of_a_call_has_one_key():
    key = CallKey(plain)
    spellings = [((1,), {}), ((1, 2), {}), ((1,), {"b": 2}), ((), {"c": 3, "a": 1}), ((), {"a": 1, "b": 2, "c": 3})]
    assert {key.of(args, kwargs) for args, kwargs in spellings} == {f"{HERE}.plain(a=1,b=2,c=3)"}


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"d": 1})])
def test_what_cannot_be_called_has_no_key(args, kwargs):
    with pytest.raises(TypeError, match=r"missing|too many|multiple|unexpected"):
        CallKey(plain).of(args, kwargs)


SMALL = st.one_of(st.sampled_from([*FIXED, (), (1,), (1, 2), Colour.RED, Point(1)]), NASTY, st.tuples(NASTY, NASTY))
CALLS = st.tuples(st.lists(SMALL, min_size=1, max_size=4).map(tuple), st.dictionaries(st.sampled_from(["deep", "x", "y"]), SMALL))


@given(st.lists(CALLS, min_size=2, max_size=12))
@example([(("1",), {}), ((1,), {}), ((True,), {}), ((1.0,), {}), ((b"1",), {})])
@example([(("a", "b"), {}), (("a,b",), {}), ((("a", "b"),), {})])
@example([((1,), {"x": 2, "y": 3}), ((1,), {"x": "2,'y':3"})])
def test_different_calls_have_different_keys(calls):
    key = CallKey(profile)
    different = set()
    for args, kwargs in calls:
        bound = inspect.signature(profile).bind(*args, **kwargs)
        bound.apply_defaults()
        others = bound.arguments.pop("others")
        fixed = tuple(tree(value) for value in bound.arguments.values())
        different.add((fixed, frozenset((name, tree(value)) for name, value in others.items())))
    assert len({key.of(args, kwargs) for args, kwargs in calls}) == len(different)


def test_functions_do_not_meet():
    def make():
        def plain(a):
            return a

        return plain

    assert CallKey(make()).of((1,), {}) != CallKey(plain).of((1,), {})


# templates

TEMPLATES = [
    "{a}:{b}",
    "u:{a}-{b}",
    "{a}x{b}",
    "{a}e{b}",
    "{a},{b}",
    "{a}'{b}",
    "{a}[{b}]",
    "{a}0{b}",
    "{a}::{b}:",
    "{a}({b})",
    "{a}.{b}",
    "{{{a}}}{b}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@given(pairs=st.lists(st.tuples(SMALL, SMALL), min_size=2, max_size=15))
@example(pairs=[("a:b", "c"), ("a", "b:c"), ("a-b", "c"), ("a", "b-c")])
@example(pairs=[(1, 1), ("1", 1), (1, "1"), (10, 1), (1, "01"), (b"0", 1)])
@example(pairs=[(ID, 1), (str(ID), 1), (None, 1), ("None", 1), (date(2026, 5, 4), 1), ("2026-05-04", 1)])
def test_a_template_keeps_different_arguments_apart(template, pairs):
    key = CallKey(two, template)
    assert len({key.of(pair, {}) for pair in pairs}) == len({tree(pair) for pair in pairs})


def two(a, b):
    return a, b


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (42, "42"),
        ("ada@example.org", "ada@example.org"),
        ("42", "'42'"),
        (ID, str(ID)),
        (str(ID), f"'{ID}'"),
        (None, "None"),
        ("a:b", "'a:b'"),
    ],
)
def test_a_template_shows_simple_values_as_they_are(value, shown):
    assert CallKey(two, "user:{a}:{b}").of((value, 1), {}) == f"user:{shown}:1"


def test_a_text_without_neighbours_is_bare():
    assert bare_text_of("a-b", "") == "a-b"


def several(self, user_id, *rest, session=None, **others):
    return self, user_id, rest, session, others


def test_what_takes_any_number_can_stand_in_a_template():
    key = CallKey(several, "{rest}:{others}")
    assert key.of((1, 2, 3, 4), {"x": 1}) == "(3,4):[{'x':1}]"


@pytest.mark.parametrize(
    ("key", "ignore", "message"),
    [
        ("user:{user}", (), "names 'user', which is no parameter"),
        ("user:{user_id.name}", (), "names of parameters only"),
        ("user:{user_id[0]}", (), "names of parameters only"),
        ("user:{user_id!r}", (), "names of parameters only"),
        ("user:{user_id:>5}", (), "names of parameters only"),
        ("user:{}", (), "names of parameters only"),
        ("user:{0}", (), "names of parameters only"),
        ("user:{user_id", (), "a brace itself is written twice"),
        ("{user_id}{rest}", (), "some text between two fields"),
        ("user", (), "is the same for every call"),
        ("user:{session}", ("session",), "no parameter that it may name"),
        (None, ("sesion",), "has no such parameter"),
        (None, "session", r"ignore=\('session',\)"),
        (lambda *_: 1, ("session",), "no meaning beside a function"),
    ],
)
def test_a_wrong_key_or_ignore_is_refused_at_once(key, ignore, message):
    with pytest.raises(InvalidKey, match=message):
        CallKey(several, key, ignore)


@pytest.mark.parametrize("key", [5, b"user"])
def test_a_key_is_text_or_a_function(key):
    with pytest.raises(TypeError, match="or a plain function"):
        CallKey(several, key)


async def later(*args):
    return args


def test_a_key_is_made_without_waiting():
    with pytest.raises(TypeError, match="a plain function"):
        CallKey(several, later)


def test_one_key_for_all_calls_must_be_said():
    assert CallKey(plain, "all", ignore=("a", "b", "c")).of((1,), {}) == "all"


def test_a_function_makes_the_key_of_the_same_arguments():
    key = CallKey(plain, lambda a, b=2, *, c=3: f"{a}-{c}")
    assert key.of((1,), {"c": 5}) == "1-5"
    assert CallKey(plain, lambda a: ID).of((1,), {}) == str(ID)


@pytest.mark.parametrize("made", [None, True, 1.5, ("a",)], ids=repr)
def test_a_function_must_make_a_key(made):
    with pytest.raises(InvalidKey, match=f"returned a {type(made).__name__}"):
        CallKey(plain, lambda a: made).of((1,), {})


def test_what_cannot_be_in_a_key_is_named_with_its_remedies():
    for args, kwargs, name in [((1, object()), {}, "user_id"), ((1, 2), {"session": object()}, "session"), ((1, 2), {"x": []}, "others")]:
        with pytest.raises(InvalidKey, match=rf"argument '{name}' of .*several.*ignore=\('{name}',\).*key=") as caught:
            CallKey(several).of(args, kwargs)
        assert caught.value.__cause__ is None
    assert (
        CallKey(several, ignore=("session",)).of((1, 2), {"session": object()}) == f"{HERE}.several(self=1,user_id=2,rest=(),others={{}})"
    )


def test_an_instance_must_say_which_one_it_is():
    with pytest.raises(InvalidKey, match=r"tell instances apart.*give Shop a __cache_key__.*ignore=\('self',\).*key="):
        CallKey(several).of((Shop(), 2), {})
    assert "self=" not in CallKey(several, ignore=("self",)).of((Shop(), 2), {})
    assert CallKey(several, "shop:{user_id}").of((Shop(), 2), {}) == "shop:2"


@pytest.mark.parametrize("function", [lambda a: a, __import__("functools").partial(plain, 1)])
def test_a_function_without_a_name_needs_a_key(function):
    with pytest.raises(InvalidKey, match="has no name of its own"):
        CallKey(function)
    assert CallKey(function, lambda *args, **kwargs: "k").of((1,), {}) == "k"


def test_tags_name_parameters():
    key = CallKey(plain)
    team, of = key.tag_templates(["team:{a}", "all"])
    values = key.arguments((7,), {})
    assert [key.tag(team, values), key.tag(of, values)] == ["team:7", "all"]
    with pytest.raises(InvalidKey, match="a tag of .*names 'a'"):
        key.tag(team, key.arguments((1.5,), {}))
    with pytest.raises(InvalidKey, match="tags are a list"):
        key.tag_templates("team")
    with pytest.raises(InvalidKey, match="names 'team'"):
        key.tag_templates(["{team}"])


# what the reader above does not see


@given(VALUES, VALUES, st.sampled_from(["", ":", "-", "a", "1", "'", "[", "(", "-:"]))
def test_bare_texts_stay_apart_and_show_where_they_end(one, other, separators):
    texts = [bare_text_of(value, separators) for value in (one, other)]
    assert (texts[0] == texts[1]) == (tree(one) == tree(other))
    for text in texts:
        assert text
        assert text[0] in "'[" or not set(text) & set(separators)


class NamedZone(tzinfo):
    def __init__(self, name):
        self.name = name

    def utcoffset(self, moment):
        return timedelta(0)

    def tzname(self, moment):
        return self.name

    def dst(self, moment):
        return None


def test_moments_stay_apart_that_differ_in_their_zone_alone():
    zones = [None, UTC, ZoneInfo("UTC"), ZoneInfo("Africa/Abidjan"), NamedZone("a"), NamedZone("b")]
    assert len({text_of(datetime(2026, 1, 1, tzinfo=zone)) for zone in zones}) == len(zones)


def test_an_object_that_answers_to_every_name_has_no_text():
    class Proxy:
        def __getattr__(self, name):
            return lambda: 1

    with pytest.raises(Unkeyable):
        text_of(Proxy())


def test_a_field_that_is_not_compared_is_not_part_of_the_text():
    @dataclasses.dataclass(frozen=True)
    class Noted:
        x: int
        note: object = dataclasses.field(default=None, compare=False)

    assert text_of(Noted(1, note=object())) == text_of(Noted(1))


def test_an_instance_may_say_which_one_it_is_by_an_attribute_of_its_own():
    shop = Shop()
    shop.__cache_key__ = ("shop", 1)
    assert text_of(shop) == f"{HERE}.Shop(('shop',1))"


def test_a_refusal_shows_no_values():
    with pytest.raises(InvalidKey) as caught:
        CallKey(plain).of(("secret", ["secret"]), {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_keys_are_the_same_in_every_process(seed):
    program = (
        "from forebay.cache.callkey import CallKey\ndef f(a, b): ...\nprint(CallKey(f).of((frozenset({'x', 'y', 'z', 1, None}), 2), {}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "__main__.f(a=frozenset('x','y','z',1,None),b=2)\n"
