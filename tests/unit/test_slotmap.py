"""What a node says of its cluster is read, or refused as a whole: nothing but `ConnectFailed` escapes, whatever it says."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebay import ConnectFailed, ServerError, Settings
from forebay.wire.address import Address
from forebay.wire.session import Session
from forebay.wire.slotmap import read_redirection, read_shards
from forebay.wire.slots import SLOTS

ASKED = Address("asked.example", 7000)
PLAIN = Settings.from_url("redis+cluster://asked.example:7000", {})


def mapped_by(text):
    return Settings.from_url(f"redis+cluster://asked.example:7000?host_map={text}", {})


def node(host=b"10.0.0.1", port=7001, **hints):
    return [host, port, b"e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca", {name.encode(): value for name, value in hints.items()}]


class Kept:
    """A slot that keeps its reply."""

    def done(self):
        return False

    def set_result(self, result):
        self.reply = result


def parsed(wire):
    session, kept = Session(), Kept()
    session.slots.append(kept)
    session.receive(wire)
    return kept.reply


def test_a_reply_from_the_wire_in_resp3():
    wire = (
        b"*2\r\n"
        b"*4\r\n:0\r\n:8191\r\n"
        b"*4\r\n$8\r\n10.0.0.1\r\n:7001\r\n$3\r\nid1\r\n%0\r\n"
        b"*4\r\n$8\r\n10.0.0.3\r\n:7003\r\n$3\r\nid3\r\n%1\r\n$8\r\nhostname\r\n$7\r\nc.local\r\n"
        b"*3\r\n:8192\r\n:16383\r\n"
        b"*4\r\n_\r\n:7002\r\n$3\r\nid2\r\n%1\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n"
    )
    assert read_shards(parsed(wire), ASKED, PLAIN) == [
        (0, 8191, Address("10.0.0.1", 7001), (Address("10.0.0.3", 7003),)),
        (8192, 16383, Address("asked.example", 7002), ()),
    ]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"10.0.0.1", "10.0.0.1"),
        (b"node-1.example", "node-1.example"),
        ("as-text.example", "as-text.example"),
        (b"::1", "::1"),
        (b"", "asked.example"),
        ("", "asked.example"),
        (None, "asked.example"),
    ],
)
def test_hosts(host, expected):
    assert read_shards([[0, 0, node(host)]], ASKED, PLAIN) == [(0, 0, Address(expected, 7001), ())]
    assert read_shards([[0, 0, node(), node(host)]], ASKED, PLAIN)[0][3] == (Address(expected, 7001),)


@pytest.mark.parametrize("unknown", [b"?", "?"])
def test_a_node_whose_address_is_not_known_is_left_out(unknown):
    reply = [[0, 99, node(unknown)], [100, 199, node(), node(unknown), node(b"10.0.0.9", 7009)]]
    assert read_shards(reply, ASKED, PLAIN) == [(100, 199, Address("10.0.0.1", 7001), (Address("10.0.0.9", 7009),))]


def test_the_host_map_says_where_a_node_is_reached():
    settings = mapped_by("10.0.0.1:7001=cache.example:17001,[::1]:7002=[::2]:17002,asked.example:7003=127.0.0.1:17003")
    reply = [[0, 1, node(), node(b"::1", 7002)], [2, 3, node(None, 7003), node(b"10.0.0.1", 7002)]]
    assert read_shards(reply, ASKED, settings) == [
        (0, 1, Address("cache.example", 17001), (Address("::2", 17002),)),
        (2, 3, Address("127.0.0.1", 17003), (Address("10.0.0.1", 7002),)),
    ]


def test_a_port_as_text_is_a_port():
    assert read_shards([[0, 0, [b"h", b"7001"]]], ASKED, PLAIN) == [(0, 0, Address("h", 7001), ())]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        5,
        b"slots",
        ServerError("ERR no"),
        [None],
        [[]],
        [[0]],
        [[0, 1]],
        [[0, SLOTS, node()]],
        [[-1, 5, node()]],
        [[5, 4, node()]],
        [[b"0", b"5", node()]],
        [[0, 5, []]],
        [[0, 5, [b"h"]]],
        [[0, 5, [b"h", b"port"]]],
        [[0, 5, [b"h", None]]],
        [[0, 5, [b"\xff\xfe", 7001]]],
        [[0, 5, None]],
        [[0, 5, {b"ip": b"10.0.0.1"}]],
        [[0, 5, [b"h", float("inf")]]],
        [[0, 5, [b"h", float("nan")]]],
        [[0, 5, [b"h", 0]]],
        [[0, 5, [b"h", -7001]]],
        [[0, 5, [b"h", 99999]]],
        [[0, 5, [5, 7001]]],
        [[0, 5, [[b"h"], 7001]]],
        [[0.5, 5, node()]],
        [[0, 5, node(), [b"h"]]],
    ],
    ids=repr,
)
def test_what_cannot_be_read_is_refused_with_the_name_of_the_node(reply):
    with pytest.raises(ConnectFailed, match=r"^asked\.example:7000 described its cluster"):
        read_shards(reply, ASKED, PLAIN)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 70_000), st.floats(), st.binary(max_size=6), st.text(max_size=4), st.just(ServerError("E"))
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.binary(max_size=2), inner, max_size=2)), max_leaves=30
)
ALMOST = st.lists(
    st.tuples(
        st.one_of(st.integers(-1, SLOTS), ANYTHING),
        st.one_of(st.integers(-1, SLOTS), ANYTHING),
        st.lists(st.one_of(st.just(node()), ANYTHING), max_size=3),
    ).map(lambda parts: [parts[0], parts[1], *parts[2]]),
    max_size=4,
)


@given(reply=st.one_of(ANYTHING, ALMOST))
@example(reply=[[0, 5, [b"h", 10**30]]])
@settings(max_examples=600)
def test_nothing_else_escapes_and_what_is_read_can_be_used(reply):
    try:
        shards = read_shards(reply, ASKED, PLAIN)
    except ConnectFailed:
        return
    for first, last, primary, replicas in shards:
        assert type(first) is int
        assert type(last) is int
        assert 0 <= first <= last < SLOTS
        for address in (primary, *replicas):
            assert isinstance(address.host, str)
            assert address.host
            assert 1 <= address.port <= 65535
            assert hash(address) == hash(Address(address.host, address.port))


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        ("10.0.0.1:7001", Address("cache.example", 17001)),
        ("10.0.0.1:7002", Address("10.0.0.1", 7002)),
        (":7003", Address("asked.example", 7003)),
        ("node.example:7004", Address("node.example", 7004)),
        ("::1:7005", Address("::1", 7005)),
        ("[::1]:7006", Address("::1", 7006)),
    ],
)
def test_redirections_are_read_in_the_same_way(announced, expected):
    assert read_redirection(announced, ASKED, mapped_by("10.0.0.1:7001=cache.example:17001")) == expected
