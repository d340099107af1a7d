"""What was sealed opens with any of the keys, under its own name and purpose, unchanged; and in no other case."""

import base64
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.codecs.coding import coding_for
from forebay.codecs.sealed import Sealer, new_sealing_key
from forebay.errors import DecodeError, SettingsError

OLD, NEW, NEXT = (bytes([number]) * 32 for number in (1, 2, 3))
SEALER = Sealer([OLD, NEW], purpose=b"test")
OVERHEAD = 4 + 12 + 16


@given(st.binary(max_size=500), st.text(max_size=50))
def test_what_goes_in_comes_out(data, name):
    sealed = SEALER.seal(data, name)
    assert len(sealed) == len(data) + OVERHEAD
    assert SEALER.unseal(sealed, name) == data
    if len(data) > 8:
        assert data not in sealed


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100])
def test_every_flipped_bit_is_found(length):
    sealed = SEALER.seal(os.urandom(length), "name")
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(DecodeError):
            SEALER.unseal(bytes(changed), "name")


def test_every_truncation_is_found_and_every_byte_too_many():
    sealed = SEALER.seal(b"value" * 10, "name")
    for length in range(len(sealed)):
        with pytest.raises(DecodeError):
            SEALER.unseal(sealed[:length], "name")
        with pytest.raises(DecodeError):
            SEALER.unseal(sealed[length:] if length else sealed + b"\x00", "name")


@given(st.binary(max_size=200))
def test_any_bytes_fail_in_the_declared_way(data):
    for forged in (data, SEALER.seal(b"", "n")[:4] + data):
        with pytest.raises(DecodeError):
            SEALER.unseal(forged, "name")


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_value_opens_under_its_own_name_alone(one, other):
    sealed = SEALER.seal(b"value", one)
    if one == other:
        return
    with pytest.raises(DecodeError, match="another name"):
        SEALER.unseal(sealed, other)


def test_swapped_values_do_not_open():
    coding = coding_for(dict[str, int], seal_keys=[OLD])
    one, other = coding.encode({"balance": 1}, "p:account:1"), coding.encode({"balance": 9}, "p:account:2")
    for packed, name in ((one, "p:account:2"), (other, "p:account:1"), (one, "q:account:1"), (one, "account:1")):
        with pytest.raises(DecodeError):
            coding.decode(packed, name)


def test_a_value_opens_for_its_own_purpose_alone():
    sealed = SEALER.seal(b"value", "name")
    for purpose, name in ((b"other", "name"), (b"tes", "tname"), (b"testn", "ame"), (b"", "testname"), (b"testname", "")):
        with pytest.raises(DecodeError):
            Sealer([OLD, NEW], purpose=purpose).unseal(sealed, name)


def test_a_value_of_one_type_does_not_open_as_another_under_the_same_name():
    sealed = coding_for(dict[str, int], seal_keys=[OLD]).encode({"a": 1}, "name")
    for other in (coding_for(None, seal_keys=[OLD]), coding_for(dict[str, int], seal_keys=[OLD], codec="msgpack")):
        with pytest.raises(DecodeError):
            other.decode(sealed, "name")


def test_the_same_value_never_looks_the_same():
    assert len({SEALER.seal(b"value", "name") for _ in range(1000)}) == 1000


# --- keys ---------------------------------------------------------------------------------------------------------------------------------


def test_keys_rotate_without_a_flush():
    name = "p:user:1"
    first = Sealer([OLD], purpose=b"p").seal(b"one", name)
    both = Sealer([OLD, NEW], purpose=b"p")
    assert both.unseal(first, name) == b"one"
    second = both.seal(b"two", name)
    assert second[:4] != first[:4]
    later = Sealer([NEW, NEXT], purpose=b"p")
    assert later.unseal(second, name) == b"two"
    with pytest.raises(DecodeError, match=f"the key {first[:4].hex()}, which is not among seal_keys="):
        later.unseal(first, name)
    prepared = Sealer([NEW, OLD], purpose=b"p")  # can read the new one already, and still writes the old
    assert prepared.unseal(second, name) == b"two"
    assert Sealer([OLD], purpose=b"p").unseal(prepared.seal(b"three", name), name) == b"three"


def test_a_foreign_key_under_the_right_id_does_not_open():
    sealed = Sealer([NEW], purpose=b"p").seal(b"value", "name")
    mine = Sealer([OLD], purpose=b"p")
    with pytest.raises(DecodeError):
        mine.unseal(mine.seal(b"", "name")[:4] + sealed[4:], "name")


def test_keys_are_bytes_or_text():
    text = base64.urlsafe_b64encode(OLD).decode()
    sealed = Sealer([OLD], purpose=b"p").seal(b"value", "name")
    for key in (text, text.rstrip("="), f" {text}\n"):
        assert Sealer([key], purpose=b"p").unseal(sealed, "name") == b"value"


def test_new_keys_are_keys_and_new():
    keys = [new_sealing_key() for _ in range(100)]
    assert len(set(keys)) == 100
    sealer = Sealer(keys, purpose=b"p")
    assert sealer.unseal(sealer.seal(b"value", "name"), "name") == b"value"
    assert all(len(base64.urlsafe_b64decode(key)) == 32 for key in keys)


BAD = [b"", b"short", b"secret" * 6, "", "secret", "s" * 42, "s" * 45, "+/" + "s" * 41, "\u017f" * 43, 32, None, ["k"], bytearray(32)]


@pytest.mark.parametrize("key", BAD, ids=ascii)
def test_what_is_no_key_is_refused_by_position_and_not_shown(key):
    with pytest.raises(SettingsError, match=r"seal_keys\[1\] is .*new_sealing_key\(\)") as caught:
        Sealer([OLD, key], purpose=b"p")
    assert "secret" not in str(caught.value)
    assert "sss" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_that_is_there_twice_is_refused():
    with pytest.raises(SettingsError, match=r"seal_keys\[2\] is there twice"):
        Sealer([OLD, NEW, base64.urlsafe_b64encode(OLD).decode()], purpose=b"p")


def test_no_keys_are_refused():
    with pytest.raises(SettingsError, match="empty"):
        Sealer([], purpose=b"p")


def test_reprs_and_messages_show_no_key():
    key = new_sealing_key()
    sealer = Sealer([key], purpose=b"p")
    coding = coding_for(None, seal_keys=[key])
    raw = base64.urlsafe_b64decode(key)
    shown = repr(sealer) + repr(coding) + repr(vars(sealer))
    for form in (key, key[:12], raw.hex(), raw.hex()[:12], repr(raw)[2:14]):
        assert form not in shown
    assert repr(sealer).startswith("Sealer(keys=1, newest=")


def test_eight_threads_share_one_sealer():
    start = threading.Barrier(8)
    before = sys.getswitchinterval()

    def work(number):
        start.wait()
        for turn in range(500):
            value, name = b"%d-%d" % (number, turn) * (1 + turn * 13 % 500), f"{number}:{turn}"
            sealed = SEALER.seal(value, name)
            assert SEALER.unseal(sealed, name) == value
            with pytest.raises(DecodeError):
                SEALER.unseal(sealed, name + "x")
        return True

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
