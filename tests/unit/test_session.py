"""The session without a socket: a Hypothesis machine against a plain queue, and each anomaly."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forebay import ConnectionLost, InvalidCommand, NoScript, ProtocolViolation, Refused, ServerError
from forebay.wire.resp import pack
from forebay.wire.session import Batch, Session


class Place:
    """A slot that remembers all that was done to it."""

    def __init__(self):
        self.abandoned = False
        self.got = []

    def done(self):
        return self.abandoned or bool(self.got)

    def set_result(self, result):
        self.got.append(result)

    def set_exception(self, exception):
        self.got.append(exception)


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


class SessionMachine(RuleBasedStateMachine):
    """Commands are asked, abandoned and answered in chunks of any size; each place gets its own reply, or nothing."""

    def __init__(self):
        super().__init__()
        self.session = Session(on_push=lambda push: self.pushes.append(list(push)))
        self.pushes = []
        self.expected_pushes = 0
        self.places = []
        self.unanswered = deque()
        self.wire = b""
        self.number = 0
        self.answered = 0

    @rule()
    def ask(self):
        place = Place()
        place.number = self.number
        self.number += 1
        self.places.append(place)
        self.unanswered.append(place)
        self.session.slots.append(place)

    @rule(size=st.integers(1, 4))
    def ask_batch(self, size):
        whole = Place()
        whole.number = [self.number + i for i in range(size)]
        self.number += size
        self.places.append(whole)
        batch = Batch(whole, size)
        for number in whole.number:
            one = Place()
            one.number = number
            self.unanswered.append(one)
            self.session.slots.append(batch)

    @precondition(lambda self: self.places)
    @rule(data=st.data())
    def abandon(self, data):
        data.draw(st.sampled_from(self.places)).abandoned = True

    @precondition(lambda self: self.unanswered)
    @rule(refuse=st.booleans())
    def answer(self, refuse):
        number = self.unanswered.popleft().number
        self.wire += b"-ERR %d\r\n" % number if refuse else bulk(b"%d" % number)

    @rule()
    def push(self):
        self.wire += b">2\r\n+invalidate\r\n*1\r\n" + bulk(b"key")
        self.expected_pushes += 1

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def deliver(self, data):
        size = data.draw(st.integers(1, len(self.wire)))
        self.answered += self.session.receive(self.wire[:size])
        self.wire = self.wire[size:]

    @invariant()
    def every_reply_names_its_place(self):
        def numbers(reply):
            return (
                [numbers(one) for one in reply]
                if isinstance(reply, list)
                else int(str(reply).split()[1])
                if isinstance(reply, ServerError)
                else int(reply)
            )

        for place in self.places:
            assert len(place.got) <= 1
            if place.got:
                assert numbers(place.got[0]) == place.number

    def teardown(self):
        while self.unanswered:
            self.answer(False)
        if self.wire:
            self.answered += self.session.receive(self.wire)
        assert self.answered == self.number
        assert self.session.quiet
        assert all(place.got or place.abandoned for place in self.places)
        assert self.pushes == [[b"invalidate", [b"key"]]] * self.expected_pushes


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def asked(count=1):
    session, places = Session(), [Place() for _ in range(count)]
    session.slots.extend(places)
    return session, places


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"+OK\r\n", b"OK"),
        (b":-5\r\n", -5),
        (b"_\r\n", None),
        (b"$-1\r\n", None),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b",1.5\r\n", 1.5),
        (b"*2\r\n:1\r\n$-1\r\n", [1, None]),
        (b"%1\r\n+a\r\n:1\r\n", {b"a": 1}),
        (b"~1\r\n:1\r\n", [1]),
        (b"=7\r\ntxt:abc\r\n", b"abc"),
    ],
)
def test_replies(wire, value):
    session, (place,) = asked()
    assert session.receive(wire) == 1
    assert place.got == [value]
    assert session.quiet


@pytest.mark.parametrize(
    ("wire", "kind", "code"),
    [
        (b"-ERR no\r\n", ServerError, "ERR"),
        (b"-WRONGTYPE no\r\n", ServerError, "WRONGTYPE"),
        (b"-NOSCRIPT no\r\n", NoScript, "NOSCRIPT"),
        (b"-LOADING no\r\n", Refused, "LOADING"),
        (b"-READONLY no\r\n", Refused, "READONLY"),
        (b"-OOM no\r\n", Refused, "OOM"),
    ],
)
def test_refusals_are_errors_with_a_code(wire, kind, code):
    session, (place,) = asked()
    session.receive(wire)
    assert type(place.got[0]) is kind
    assert place.got[0].code == code


@pytest.mark.parametrize(
    "wire", [b"?what\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"*-7\r\n", b"\x00\x01", b"$5\r\nabcdefgh\r\n"]
)
def test_what_is_no_reply_ends_the_session(wire):
    session, places = asked(2)
    with pytest.raises(ProtocolViolation):
        session.receive(wire)
        session.receive(b"\r\n" * 10)
    assert places[1].got == []


def test_a_reply_to_nobody_is_a_violation():
    session, (place,) = asked()
    with pytest.raises(ProtocolViolation, match="nobody had asked"):
        session.receive(b"+OK\r\n+AGAIN\r\n")
    assert place.got == [b"OK"]


def test_failing_gives_every_waiting_place_an_error_of_its_own():
    session, places = asked(3)
    places[1].abandoned = True
    session.fail(lambda: ConnectionLost("gone"))
    assert places[1].got == []
    assert isinstance(places[0].got[0], ConnectionLost)
    assert places[0].got[0] is not places[2].got[0]
    assert not session.slots


def test_half_a_reply_is_not_quiet():
    session = Session()
    assert session.receive(b"$5\r\nab") == 0
    assert not session.quiet


@pytest.mark.parametrize("args", [("GET", None), ("GET", True), ("GET", ["a"]), ("GET", object()), ("GET", "\ud800"), ()])
def test_commands_that_cannot_be_sent(args):
    with pytest.raises(InvalidCommand) as caught:
        pack(args)
    assert len(str(caught.value)) < 200


def test_commands_are_packed_as_bulk_strings():
    assert (
        pack(("SET", "k", b"\x00", 1, 2.5, memoryview(b"m")))
        == b"*6\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n\x00\r\n$1\r\n1\r\n$3\r\n2.5\r\n$1\r\nm\r\n"
    )


def test_half_a_reply_to_nobody_never_becomes_the_beginning_of_anothers():
    session = Session()
    session.receive(b"$5\r\nali")
    place = Place()
    session.slots.append(place)
    with pytest.raises(ProtocolViolation, match="nobody had asked"):
        session.receive(b"$9\r\nmy answer\r\n")
    assert place.got == []


def test_half_a_push_to_nobody_is_fine():
    pushes = []
    session, place = Session(pushes.append), Place()
    session.receive(b">2\r\n+invali")
    session.slots.append(place)
    session.receive(b"date\r\n_\r\n+OK\r\n")
    assert place.got == [b"OK"]
    assert list(map(list, pushes)) == [[b"invalidate", None]]
