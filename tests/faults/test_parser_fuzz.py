"""Whatever bytes arrive, in whatever pieces: a session hands each command its own reply, or ends with `ProtocolViolation`.

Streams of RESP3 are drawn together with the replies that they stand for; then they are split, cut, altered and overrun.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forebay import ConnectionLost, ProtocolViolation, ServerError
from forebay.wire.session import Batch, Session

quick = settings(max_examples=300, deadline=None)


class Place:
    """A slot that keeps all that it was given."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def done(self) -> bool:
        return bool(self.got)

    def set_result(self, result: Any, /) -> None:
        self.got.append(result)

    set_exception = set_result


class Frame:
    """The bytes of one reply or push, and what they stand for, spelled by `spell`."""

    def __init__(self, wire: bytes, value: str, *, push: bool = False) -> None:
        self.wire = wire
        self.value = value
        self.push = push

    def __repr__(self) -> str:
        return repr(self.wire)


def spell(value: Any) -> str:
    """Text that is the same for the same reply; errors are equal by their message, and NaN to itself."""
    if isinstance(value, ServerError):
        return f"-{value}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spell, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{spell(key)}: {spell(one)}" for key, one in value.items()) + "}"
    return repr(value)


def frames(kind: bytes, parts: list[Frame], size: int | None = None) -> bytes:
    return b"%b%d\r\n" % (kind, len(parts) if size is None else size) + b"".join(part.wire for part in parts)


def bulk(data: bytes) -> Frame:
    return Frame(b"$%d\r\n%b\r\n" % (len(data), data), repr(data))


def array(parts: list[Frame], kind: bytes = b"*") -> Frame:
    return Frame(frames(kind, parts), "[" + ", ".join(part.value for part in parts) + "]")


def mapping(pairs: dict[bytes, Frame]) -> Frame:
    parts = [frame for key, value in pairs.items() for frame in (bulk(key), value)]
    return Frame(frames(b"%", parts, len(pairs)), "{" + ", ".join(f"{key!r}: {value.value}" for key, value in pairs.items()) + "}")


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
DATA = st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"\r\n$3\r\nabc\r\n", b"+OK\r\n", b"|1\r\n", b"x" * 5000]))
SCALARS = st.one_of(
    DATA.map(bulk),
    LINE.map(lambda line: Frame(b"+%b\r\n" % line.encode(), repr(line.encode()))),
    st.tuples(st.sampled_from(["ERR", "WRONGTYPE", "LOADING", "MOVED 7 a:1", ""]), LINE).map(
        lambda words: Frame(b"-%b\r\n" % " ".join(words).encode(), f"-{' '.join(words)}")
    ),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: Frame(b":%d\r\n" % number, repr(number))),
    st.sampled_from([Frame(b"_\r\n", "None"), Frame(b"$-1\r\n", "None"), Frame(b"*-1\r\n", "None")]),
    st.booleans().map(lambda truth: Frame(b"#t\r\n" if truth else b"#f\r\n", repr(truth))),
    st.floats(allow_nan=False).map(lambda number: Frame(b",%b\r\n" % repr(number).encode(), repr(number))),
    st.integers().map(lambda number: Frame(b"(%d\r\n" % number, repr(b"%d" % number))),
    st.binary(max_size=10).map(lambda text: Frame(b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text), repr(text))),
)
AGGREGATES = st.recursive(
    st.lists(SCALARS, max_size=4).map(array),
    lambda inner: st.one_of(
        st.tuples(st.lists(SCALARS | inner, max_size=4), st.sampled_from([b"*", b"~"])).map(lambda drawn: array(*drawn)),
        st.dictionaries(st.binary(max_size=8), SCALARS | inner, max_size=3).map(mapping),
    ),
    max_leaves=8,
)
REPLIES = SCALARS | AGGREGATES
PUSHES = st.lists(SCALARS, min_size=1, max_size=3).map(
    lambda parts: Frame(frames(b">", parts), "[" + ", ".join(part.value for part in parts) + "]", push=True)
)
STREAMS = st.lists(REPLIES | PUSHES, max_size=8)

# Lengths stay below five digits: what a server announces is allocated, and this machine has other work.
FRAGMENTS = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b"-1",
        b"0",
        b"1",
        b"2",
        b"99",
        b" ",
        b"\x00",
        b"\xff",
        b"OK",
        b"inf",
        b"t",
        b"txt:",
        *(bytes([c]) for c in b"+-:$*%~>|_#,(=!?.;"),
    ]
)
NOISE = st.one_of(st.binary(max_size=60), st.lists(FRAGMENTS, max_size=25).map(b"".join))


def pieces(draw: Any, wire: bytes) -> list[bytes]:
    """Split *wire* at arbitrary places."""
    places = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    return [wire[begin:end] for begin, end in zip([0, *places], [*places, len(wire)], strict=True)]


def asked(replies: int, batch: int = 0) -> tuple[Session, list[Place], list[Any]]:
    """A session that waits for so many replies, the first *batch* of them as one batch; its places, and pushes as they come."""
    pushes: list[Any] = []
    session = Session(lambda push: pushes.append(list(push)))
    places = [Place() for _ in range(replies)]
    if batch:
        session.slots.extend([Batch(places[0], batch)] * batch)
    session.slots.extend(places[1 if batch else 0 :])
    return session, places, pushes


def received(session: Session, parts: list[bytes]) -> bool:
    """Feed the parts and return whether all were taken; nothing but a violation may come out."""
    try:
        for part in parts:
            session.receive(part)
    except ProtocolViolation:
        return False
    return True


@quick
@given(st.data(), STREAMS)
def test_a_valid_stream_gives_the_same_replies_however_it_is_split(data: st.DataObject, stream: list[Frame]) -> None:
    replies = [frame for frame in stream if not frame.push]
    session, places, pushes = asked(len(replies))
    answered = sum(session.receive(part) for part in pieces(data.draw, b"".join(frame.wire for frame in stream)) if part)
    assert answered == len(replies)
    assert [[spell(one) for one in place.got] for place in places] == [[frame.value] for frame in replies]
    assert [spell(push) for push in pushes] == [frame.value for frame in stream if frame.push]
    assert session.quiet


@quick
@given(st.data(), st.lists(REPLIES, min_size=2, max_size=6))
def test_a_batch_gives_the_same_replies_however_it_is_split(data: st.DataObject, replies: list[Frame]) -> None:
    size = data.draw(st.integers(1, len(replies)))
    session, places, _ = asked(1 + len(replies) - size, batch=size)
    assert received(session, pieces(data.draw, b"".join(frame.wire for frame in replies)))
    assert [spell(one) for one in places[0].got[0]] == [frame.value for frame in replies[:size]]
    assert [spell(place.got[0]) for place in places[1:]] == [frame.value for frame in replies[size:]]


@quick
@given(st.data(), STREAMS.filter(bool))
def test_a_session_is_quiet_between_frames_and_never_within_one(data: st.DataObject, stream: list[Frame]) -> None:
    """Whoever finds a connection quiet sends the next command on it: half a frame there would become the beginning of its reply."""
    wire = b"".join(frame.wire for frame in stream)
    cut = data.draw(st.integers(0, len(wire)))
    ends, end = {0: 0}, 0
    for number, frame in enumerate(stream, 1):
        end += len(frame.wire)
        ends[end] = sum(not one.push for one in stream[:number])
    due = max(answered for end, answered in ends.items() if end <= cut)
    session, _, _ = asked(due)
    for part in pieces(data.draw, wire[:cut]):
        session.receive(part)
    assert not session.slots
    assert session.quiet == (cut in ends)


@quick
@given(st.data(), REPLIES, REPLIES)
def test_part_of_a_reply_to_nobody_never_becomes_part_of_anothers(data: st.DataObject, stray: Frame, own: Frame) -> None:
    part = stray.wire[: data.draw(st.integers(1, len(stray.wire) - 1))]
    session, _, _ = asked(0)
    if received(session, pieces(data.draw, part)):
        place = Place()
        session.slots.append(place)
        received(session, pieces(data.draw, own.wire))
        session.fail(lambda: ConnectionLost("given up"))
        assert [type(one) for one in place.got] == [ConnectionLost]


@quick
@given(st.data(), st.lists(REPLIES, min_size=1, max_size=5))
def test_replies_before_an_anomaly_are_kept_and_all_others_fail(data: st.DataObject, replies: list[Frame]) -> None:
    bad = data.draw(st.integers(0, len(replies) - 1))
    wire = b"".join(frame.wire for frame in replies[:bad]) + b"?" + b"".join(frame.wire for frame in replies[bad:])
    session, places, _ = asked(len(replies))
    assert not received(session, pieces(data.draw, wire))
    session.fail(lambda: ConnectionLost("given up"))
    assert [spell(place.got[0]) for place in places[:bad]] == [frame.value for frame in replies[:bad]]
    assert all([type(one) for one in place.got] == [ConnectionLost] for place in places[bad:])
    received(session, pieces(data.draw, wire))  # the kernel may hold more, and it may be read
    assert all(len(place.got) == 1 for place in places)


@quick
@given(st.data(), NOISE)
def test_noise_ends_in_replies_or_in_a_violation_and_nothing_else(data: st.DataObject, noise: bytes) -> None:
    session, places, _ = asked(6, batch=data.draw(st.integers(0, 3)))
    received(session, pieces(data.draw, noise))
    session.fail(lambda: ConnectionLost("given up"))
    assert all(len(place.got) == 1 for place in places)
    got = [place.got[0] for place in places]
    lost = [isinstance(one, ConnectionLost) for one in got]
    assert lost == sorted(lost), "a reply was handed out after one that never came"


@quick
@given(st.data(), st.lists(REPLIES, min_size=1, max_size=6))
def test_a_damaged_stream_ends_in_replies_or_in_a_violation_and_nothing_else(data: st.DataObject, replies: list[Frame]) -> None:
    wire = b"".join(frame.wire for frame in replies)
    where = data.draw(st.integers(0, len(wire) - 1))
    damage = data.draw(st.sampled_from(["alter", "remove", "insert", "cut"]))
    something = data.draw(FRAGMENTS)
    before, after = wire[:where], wire[where + data.draw(st.integers(1, 8)) :]
    damaged = {"alter": before + something + after, "remove": before + after, "insert": before + something + wire[where:], "cut": before}[
        damage
    ]
    assume(not any(len(digits) > 4 for digits in damaged.replace(b"\r", b"*").split(b"*") if digits.isdigit()))
    session, places, _ = asked(len(replies))
    received(session, pieces(data.draw, damaged))
    session.fail(lambda: ConnectionLost("given up"))
    assert all(len(place.got) == 1 for place in places)
    end = whole = 0
    for frame in replies:
        end += len(frame.wire)
        whole += end <= where
    assert [spell(place.got[0]) for place in places[:whole]] == [frame.value for frame in replies[:whole]]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """At most a gigabyte more than now, so that no machine really tries to hold what a server announces."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "wire",
    [
        b"%1\r\n*0\r\n:1\r\n",
        b"%1\r\n%0\r\n:1\r\n",
        b"%1\r\n~0\r\n:1\r\n",
        b"*1\r\n%1\r\n>1\r\n:1\r\n:1\r\n",
        b"*4294967295\r\n",
        b"$9223372036854775807\r\n",
        b"*9223372036854775807\r\n",
    ],
    ids=["a list as key", "a map as key", "a set as key", "a push as key", "four billion parts", "a huge text", "a huge array"],
)
def test_what_cannot_be_held_is_a_violation_and_no_other_error(wire: bytes) -> None:
    session, (place,), _ = asked(1)
    received(session, [wire])
    assert place.got == []


@quick
@given(st.data(), st.lists(REPLIES, min_size=1, max_size=4))
def test_an_attribute_before_an_answer_is_never_taken_for_it(data: st.DataObject, replies: list[Frame]) -> None:
    """RESP3 lets a server put one before any reply; none does that unasked. Seen where an answer begins, it ends the session."""
    wire = b"|1\r\n+ttl\r\n:3600\r\n" + b"".join(frame.wire for frame in replies)
    session, places, _ = asked(len(replies))
    received(session, pieces(data.draw, wire))
    session.fail(lambda: ConnectionLost("given up"))
    assert all(isinstance(place.got[0], ConnectionLost) for place in places)
