"""The bytes of an entry: what goes in comes out, and damage is found wherever it can be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.cache.entry import HEADER, NOBODY, Malformed, is_enveloped, is_placeholder, new_token, pack_entry, placeholder, read_entry

times = st.floats(0, 1e15) | st.just(math.inf)
versions = st.lists(
    st.tuples(st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable()), st.binary(min_size=8, max_size=8)), max_size=5
)


@given(payload=st.binary(min_size=1), fresh=times, load=st.floats(0, 1e9), mark=st.binary(min_size=8, max_size=8), versions=versions)
def test_what_goes_in_comes_out(payload, fresh, load, mark, versions):
    data = pack_entry(payload, fresh_until=fresh, load_ms=load, fingerprint=mark, versions=tuple(versions))
    entry = read_entry(data)
    assert (entry.payload, entry.fresh_until, entry.load_ms, entry.fingerprint) == (payload, fresh, load, mark)
    assert entry.versions == tuple(versions)
    assert (entry.token, entry.lease_until) == (NOBODY, 0.0)
    assert is_enveloped(data)
    assert not is_placeholder(data)


def packed():
    return pack_entry(b'{"a": 1}', fresh_until=1e12, load_ms=5.0, fingerprint=b"12345678", versions=(("c:#tag:t", b"abcdefgh"),))


def test_no_two_entries_have_the_same_header():
    assert len({packed()[: HEADER.size] for _ in range(100)}) == 100


@pytest.mark.parametrize("length", range(1, len(packed()) - 8))
def test_what_is_cut_short_is_malformed(length):
    """Up to the payload; a shorter payload is the codec's to find, for only that knows where it ends."""
    if length != 9 or packed()[0] != 2:
        with pytest.raises(Malformed):
            read_entry(packed()[:length])


@given(at=st.integers(0, HEADER.size - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_header_is_malformed_or_another_header(at, bit):
    data = bytearray(packed())
    data[at] ^= 1 << bit
    try:
        entry = read_entry(bytes(data))
    except Malformed:
        return
    assert entry.header != packed()[: HEADER.size]
    assert entry.lease_until >= 0
    assert entry.fresh_until >= 0, "no time that is no number comes through"


@pytest.mark.parametrize("kind", range(3, 9))
def test_versions_to_come_are_ours_and_unknown(kind):
    data = bytes((kind,)) + packed()[1:]
    assert is_enveloped(data)
    with pytest.raises(Malformed, match=f"kind {kind}"):
        read_entry(data)


@pytest.mark.parametrize("text", [b"1", b'"a"', b"{}", b"[]", b"null", b"true", b"-1", b" 1"])
def test_json_is_never_taken_for_ours(text):
    assert not is_enveloped(text)
    assert not is_placeholder(text)


def test_a_placeholder_is_one_and_no_value():
    data = placeholder(new_token())
    assert is_placeholder(data)
    assert not is_placeholder(data + b"x")
    with pytest.raises(Malformed):
        read_entry(data)
