import enum
import fnmatch
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay import InvalidKey, InvalidNamespace
from forebay.keys import MAX_KEY_BYTES, Namespace, check_prefix

SPACE = Namespace("shop:prod:", "user")
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=200)


class Number(enum.IntEnum):
    ONE = 1


class Text(enum.StrEnum):
    A = "a"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (42, "42"),
        (-1, "-1"),
        ("42", "42"),
        ("ada@example.org", "ada@example.org"),
        ("Zoë", "Zoë"),
        ("a b", "a b"),
        ("\u00a0", "\u00a0"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Number.ONE, "1"),
        (Text.A, "a"),
        ("#clock", "##clock"),
        ("##x", "###x"),
        ("a#b", "a#b"),
    ],
)
def test_names(key, name):
    assert SPACE.name(key) == "shop:prod:user:" + name


@pytest.mark.parametrize(
    "key", ["", "a\nb", "\x00", "\x7f", "\x85", "\ud800", "k" * (MAX_KEY_BYTES + 1), "é" * 600, True, None, 1.5, b"x", ("a",)]
)
def test_bad_keys_are_named(key):
    with pytest.raises(InvalidKey) as caught:
        SPACE.name(key)
    assert len(str(caught.value)) < 300


def test_the_error_says_what_and_where():
    with pytest.raises(InvalidKey, match=r"'a\\nb' holds '\\n' at position 1"):
        SPACE.name("a\nb")
    with pytest.raises(InvalidKey, match="takes 1025 bytes, the limit is 1024: use a digest"):
        SPACE.name("k" * 1025)


@given(texts, texts)
def test_two_keys_never_share_a_name_and_never_leave_the_namespace(one, other):
    assert (SPACE.name(one) == SPACE.name(other)) == (one == other)
    assert SPACE.name(one).startswith("shop:prod:user:")
    assert not SPACE.name(one).removeprefix("shop:prod:user:").startswith("#") or SPACE.name(one).startswith("shop:prod:user:##")


numbers = st.integers(-(10**40), 10**40)
anything = (
    texts
    | st.text(max_size=3)
    | numbers
    | st.uuids()
    | st.sampled_from(["#x", "a#b", "", "a\n", "k" * 300, "é" * 600, True, None, Number.ONE, Text.A])
)


@given(st.lists(texts, unique=True) | st.lists(numbers, unique=True) | st.lists(anything, unique=True))
@example(["a", "#clock", "b"])
@example([True, 2])
def test_many_keys_are_named_as_each_by_itself(keys):
    try:
        expected = [SPACE.name(key) for key in keys]
    except InvalidKey as error:
        with pytest.raises(InvalidKey) as caught:
            SPACE.names(keys)
        assert str(caught.value) == str(error)
    else:
        assert SPACE.names(keys) == expected


@pytest.mark.parametrize("bad", ["", "a\nb", "\ud800", "k" * 1025, True, None])
@pytest.mark.parametrize("among", [["a", "b"], [1, 2], [UUID(int=5)]], ids=["texts", "numbers", "uuids"])
def test_a_bad_key_among_many_is_named(bad, among):
    with pytest.raises(InvalidKey):
        SPACE.names([*among, bad, *among])


@pytest.mark.parametrize("label", ["user", "user:profile", "a.b-c_d", "A1", "sessions", "limits"])
def test_namespaces(label):
    assert Namespace("", label).head == f"{label}:"


@pytest.mark.parametrize(
    "label", ["", ":", "a:", ":a", "a::b", "a b", "a*", "a{b}", "#a", "é", "a" * 129, "session", "limit", "lock", "lock:x", None, 3]
)
def test_bad_namespaces(label):
    with pytest.raises(InvalidNamespace) as caught:
        Namespace("", label)
    assert repr(label) in str(caught.value)


@pytest.mark.parametrize("prefix", ["a b", "{x}", "a\n", "p" * 129, None])
def test_bad_prefixes(prefix):
    with pytest.raises(InvalidNamespace):
        check_prefix(prefix)


def test_patterns_stay_inside_also_when_the_prefix_looks_like_one():
    space = Namespace("a*[b]?:", "user")
    assert space.pattern("1:*") == r"a\*\[b\]\?:user:1:*"
    assert space.pattern("#x*") == r"a\*\[b\]\?:user:##x*"
    assert fnmatch.fnmatchcase("user:9", Namespace("", "user").everything())
    for empty in ("", None):
        with pytest.raises(InvalidKey, match="clear"):
            space.pattern(empty)
