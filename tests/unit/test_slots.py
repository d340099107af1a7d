"""Slots are those that a real cluster node computes, and a command that was split gives the reply that the whole would have given."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import CrossSlot, EmbeddedServer, ServerError
from forebay.wire.resp import pack
from forebay.wire.slots import SLOTS, common_slot, slot_of
from forebay.wire.splitting import split
from tests.servers import Line, free_ports

PUBLISHED = {
    b"123456789": 0x31C3,
    b"": 0,
    b"foo{}{bar}": "whole",
    b"foo{{bar}}zap": b"{bar",
    b"foo{bar}{zap}": b"bar",
    b"{user1000}.following": b"user1000",
    b"{user1000}.followers": b"user1000",
    b"foo}{bar}": b"bar",
    b"foo{bar": "whole",
    b"foo}bar{": "whole",
    b"{}": "whole",
    b"{}{a}": "whole",
    b"{\x00}a": b"\x00",
}
NAMES = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from([b"{", b"}", b"a", b"user", b"\xff"]), max_size=8).map(b"".join))


def crc(data: bytes) -> int:
    """CRC16 as the specification writes it down: XMODEM, polynomial 0x1021, bit by bit."""
    register = 0
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1) ^ 0x1021 if register & 0x8000 else register << 1
        register &= 0xFFFF
    return register


def plain_slot(key: bytes) -> int:
    """What the specification says, word by word."""
    _, opening, behind = key.partition(b"{")
    tag, closing, _ = behind.partition(b"}")
    return crc(tag if opening and closing and tag else key) % SLOTS


@pytest.fixture(scope="module")
def cluster_node():
    """One node that was told to be part of a cluster: it holds no slots, and computes them all the same."""
    with EmbeddedServer(port=free_ports(1)[0], options=["--cluster-enabled", "yes"]) as server:
        line = Line(server.address().port)
        yield line
        line.close()


@pytest.mark.parametrize("key", PUBLISHED)
def test_the_published_examples(key):
    expected = PUBLISHED[key]
    tagged = key if expected == "whole" else expected
    assert slot_of(key) == (expected if isinstance(expected, int) else crc(tagged) % SLOTS)


def test_the_check_value_of_the_specification():
    assert slot_of("123456789") == 12739


@given(key=NAMES)
def test_a_slot_is_that_of_the_specification(key):
    assert slot_of(key) == plain_slot(key) == slot_of(memoryview(key))


@given(key=st.text(max_size=20))
def test_text_is_its_utf8(key):
    assert slot_of(key) == plain_slot(key.encode())


@pytest.mark.parametrize("key", [0, 7, -12, 123456789, 1.5, 1e22, 0.1])
def test_a_number_is_where_its_packed_form_is(key):
    assert slot_of(key) == plain_slot(pack(("x", key)).split(b"\r\n")[4])


def test_a_real_node_agrees(cluster_node):
    draw = random.Random(2024)
    alphabet = [b"{", b"}", b"{}", b"{a}", b"user", b"1000", b"\xff\x00", b" ", "ключ".encode()]
    keys = [*PUBLISHED, *(b"".join(draw.choices(alphabet, k=draw.randint(1, 9))) for _ in range(1500))]
    wrong = [key for key in keys if slot_of(key) != cluster_node.call("CLUSTER", "KEYSLOT", key)]
    assert not wrong


def test_a_common_slot_is_returned_and_no_keys_have_none():
    assert common_slot([], "PING") is None
    assert common_slot(["{a}1", b"{a}2", memoryview(b"x{a}")], "MGET") == slot_of("a")


@given(keys=st.lists(NAMES, min_size=1, max_size=6))
def test_keys_of_several_slots_are_refused(keys):
    slots = {plain_slot(key) for key in keys}
    if len(slots) == 1:
        assert common_slot(keys, "RENAME") == slots.pop()
        return
    with pytest.raises(CrossSlot) as caught:
        common_slot(keys, "RENAME")
    assert str(caught.value).startswith(f"RENAME has keys in {len(slots)} slots")
    name = keys[0].decode("utf-8", "backslashreplace")
    assert repr(name if len(name) <= 60 else name[:57] + "...") in str(caught.value)


def test_an_error_names_keys_and_stays_short():
    keys = [f"key-{number}" + "x" * 500 for number in range(2000)]
    with pytest.raises(CrossSlot) as caught:
        common_slot(keys, "SUNION")
    text = str(caught.value)
    assert "key-0" in text
    assert "key-4" in text
    assert "and 1995 more" in text
    assert "{tag}" in text
    assert len(text) < 700


class Store:
    """The keys of a whole cluster in one dict, with the few commands that can be split."""

    def __init__(self, held: dict[bytes, bytes]) -> None:
        self.held = dict(held)
        self.slots: list[set[int]] = []

    def run(self, name, *args):
        keys = args[::2] if name == "MSET" else args
        self.slots.append({slot_of(key) for key in keys})
        if name == "MGET":
            return [self.held.get(key) for key in keys]
        if name == "MSET":
            self.held.update(zip(keys, args[1::2], strict=True))
            return b"OK"
        found = [key for key in keys if key in self.held]
        if name in ("EXISTS", "TOUCH"):
            return len(found)
        return sum(self.held.pop(key, None) is not None for key in keys)


KEYS = st.sampled_from([b"a", b"b", b"c", b"{a}1", b"{a}2", b"{b}1", b"d", b"e", b""])


@given(
    name=st.sampled_from(["DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "MSET"]),
    keys=st.lists(KEYS, min_size=1, max_size=12),
    held=st.dictionaries(KEYS, st.binary(max_size=3)),
)
@settings(max_examples=400)
def test_the_parts_do_together_what_the_whole_does(name, keys, held):
    """Also with a key that is named twice: the last value of MSET wins, EXISTS counts it twice, DEL once."""
    args = tuple(part for at, key in enumerate(keys) for part in (key, b"%d" % at)) if name == "MSET" else tuple(keys)
    whole, parted = Store(held), Store(held)
    expected = whole.run(name, *args)
    parts = split((name, *args))
    slots = {slot_of(key) for key in keys}
    if len(slots) == 1:
        assert parts is None
        return
    assert parts is not None
    reply = parts.whole([parted.run(*part) for part in parts.parts])
    assert reply == expected
    assert parted.held == whole.held
    assert sorted(map(sorted, parted.slots)) == sorted([slot] for slot in slots), "one part for each slot"


@pytest.mark.parametrize("name", ["DEL", "mget", b"MSET", "exists"])
def test_a_refused_part_is_the_reply(name):
    args = ("a", "1", "b", "2") if name == b"MSET" else ("a", "b")
    parts = split((name, *args))
    assert parts is not None
    refusal = ServerError("NOPERM no")
    good = [None] if name == "mget" else 1
    assert parts.whole([good, refusal]) is refusal
    assert parts.whole([refusal, good]) is refusal
    assert {part[0] for part in parts.parts} == {name}, "as it was written"


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "a"),
        ("SUNION", "a", "b"),
        ("RENAME", "a", "b"),
        ("MSETNX", "a", "1", "b", "2"),
        ("PFCOUNT", "a", "b"),
        ("MGET", "a"),
        ("MSET", "a", "1"),
        ("MSET", "a", "1", "b"),
        ("MSET",),
        ("MGET",),
        ("DEL",),
        ("EVAL", "s", 2, "a", "b"),
    ],
)
def test_what_cannot_be_split_stays_whole(command):
    assert split(command) is None


@pytest.mark.parametrize("kind", [str, bytes, memoryview])
def test_values_reach_their_keys_whatever_they_are_made_of(kind):
    def of(text: str) -> object:
        return text if kind is str else kind(text.encode())

    parts = split(("MSET", of("a"), 1, of("b"), 2.5, of("{a}x"), of("v")))
    assert parts is not None
    assert [part[1:] for part in parts.parts] == [(of("a"), 1, of("{a}x"), of("v")), (of("b"), 2.5)]
    assert parts.whole([b"OK", b"OK"]) == b"OK"
