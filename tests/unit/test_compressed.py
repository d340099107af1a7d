"""zstd gives back what it was given, and whatever else it is given, it neither crashes nor grows."""

import os
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.codecs.compressed import Compressor, train_dictionary
from forebay.errors import DecodeError, SettingsError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SAMPLES = [b'{"id": %d, "name": "user %d", "email": "u%d@example.com", "role": "member"}' % (i, i * 7919 % 1000, i) for i in range(1000)]
DICTIONARY = train_dictionary(SAMPLES, 2048)
OTHER = train_dictionary([b"<li class=%d>%d apples, %d pears</li>" % (i % 7, i, i * 31 % 97) for i in range(1000)], 2048)
PLAIN = Compressor(above=0, max_bytes=1 << 20)
TAUGHT = Compressor(above=0, dictionary=DICTIONARY, max_bytes=1 << 20)

bits = st.binary(max_size=300) | st.builds(lambda data, times: data * times, st.binary(min_size=1, max_size=20), st.integers(1, 500))


@given(bits)
def test_what_goes_in_comes_out(data):
    for compressor in (PLAIN, TAUGHT, Compressor(above=100, max_bytes=1 << 20)):
        assert compressor.unpack(compressor.pack(data)) == data


@given(bits)
def test_packing_costs_one_byte_at_most(data):
    for compressor in (PLAIN, TAUGHT):
        assert len(compressor.pack(data)) <= len(data) + 1


def test_the_threshold_is_in_bytes_and_what_is_above_it_is_compressed():
    compressor = Compressor(above=100, max_bytes=1000)
    assert compressor.pack(b"x" * 100) == b"\x00" + b"x" * 100
    assert compressor.pack(b"x" * 101)[:1] == b"\x01"
    assert len(compressor.pack(b"x" * 101)) < 40


def test_what_does_not_get_smaller_is_left_as_it_is():
    noise = os.urandom(500)
    assert PLAIN.pack(noise) == b"\x00" + noise


def test_a_dictionary_pays_for_small_values():
    value = SAMPLES[500]
    packed = TAUGHT.pack(value)
    assert packed[:1] == b"\x02"
    assert len(packed) < len(value) / 2
    assert len(PLAIN.pack(value)) > len(value) * 0.8


def test_a_reader_with_a_dictionary_reads_what_was_written_without_and_the_raw():
    value = b"x" * 500
    assert TAUGHT.unpack(PLAIN.pack(value)) == value
    assert TAUGHT.unpack(b"\x00" + value) == value
    assert PLAIN.unpack(b"\x00" + value) == value


def test_a_missing_dictionary_is_a_failure_that_names_it():
    packed = TAUGHT.pack(SAMPLES[1])
    with pytest.raises(DecodeError, match=rf"dictionary {packed[1:5].hex()}, and this cache has none: give it dictionary="):
        PLAIN.unpack(packed)
    with pytest.raises(DecodeError, match=rf"dictionary {packed[1:5].hex()}, and this cache has [0-9a-f]{{8}}"):
        Compressor(above=0, dictionary=OTHER, max_bytes=1000).unpack(packed)


def test_a_frame_under_a_false_dictionary_name_fails():
    value = b"<li class=3>500 apples, 93 pears</li>"
    forged = Compressor(above=0, dictionary=OTHER, max_bytes=1000).pack(value)
    assert forged[:1] == b"\x02"
    mine = TAUGHT.pack(SAMPLES[1])
    with pytest.raises(DecodeError):
        TAUGHT.unpack(mine[:5] + forged[5:])
    with pytest.raises(DecodeError):
        TAUGHT.unpack(b"\x01" + mine[5:])


@given(st.binary(max_size=100), st.sampled_from([b"", b"\x00", b"\x01", b"\x02", b"\x01\x28\xb5\x2f\xfd", b"\x01\x50\x2a\x4d\x18"]))
def test_any_bytes_give_bytes_or_a_declared_failure(data, head):
    for compressor in (PLAIN, TAUGHT):
        try:
            compressor.unpack(head + data)
        except DecodeError as failure:
            assert str(failure)


@pytest.mark.parametrize("compressor", [PLAIN, TAUGHT], ids=repr)
@pytest.mark.parametrize("value", [b"x" * 100, SAMPLES[7] * 3, bytes(200_000)], ids=["x", "json", "zeros"])
def test_truncation_at_every_length_and_bytes_too_many(compressor, value):
    packed = compressor.pack(value)
    for length in range(len(packed)):
        with pytest.raises(DecodeError):
            compressor.unpack(packed[:length])
    for more in (b"\x00", packed, packed[1:], packed[5:]):
        with pytest.raises(DecodeError):
            compressor.unpack(packed + more)


@pytest.mark.parametrize("compressor", [PLAIN, TAUGHT], ids=repr)
def test_a_flipped_bit_is_found_or_without_effect(compressor):
    value = b"".join(SAMPLES[:4])
    packed = compressor.pack(value)
    for position in range(8, len(packed) * 8):  # but for the marker: 0x00 means "as it is" for any bytes
        changed = bytearray(packed)
        changed[position // 8] ^= 1 << position % 8
        try:
            assert compressor.unpack(bytes(changed)) == value
        except DecodeError:
            continue


# --- bombs --------------------------------------------------------------------------------------------------------------------------------

LARGE = 1 << 28


def stream(size, pledged):
    """A frame of zeros that says its size, or does not."""
    compressor = zstd.ZstdCompressor()
    if pledged:
        return compressor.compress(bytes(size), compressor.FLUSH_FRAME)
    parts = [compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, compressor.flush()])


def lying(size, says):
    """A frame of *size* zeros that says it has *says*."""
    frame = stream(size, pledged=True)
    assert frame.count(struct.pack("<I", size), 0, 20) == 1
    return frame.replace(struct.pack("<I", size), struct.pack("<I", says), 1)


def test_a_frame_that_says_it_is_too_large_is_refused():
    with pytest.raises(DecodeError, match=r"expand to 268435456 bytes, and max_bytes=1048576"):
        PLAIN.unpack(b"\x01" + stream(LARGE, pledged=True))


def test_a_frame_that_does_not_say_its_size_is_refused():
    with pytest.raises(DecodeError, match="unknown"):
        PLAIN.unpack(b"\x01" + stream(LARGE, pledged=False))


@pytest.mark.parametrize("says", [1, 1000, 1 << 20])
def test_a_frame_that_lies_about_its_size_is_refused(says):
    with pytest.raises(DecodeError):
        PLAIN.unpack(b"\x01" + lying(LARGE, says))


def test_bombs_cost_no_memory(tmp_path):
    bombs = [stream(LARGE, pledged=True), stream(LARGE, pledged=False), lying(LARGE, 1 << 20), lying(LARGE, 5)]
    assert all(len(bomb) < 100_000 for bomb in bombs)
    for number, bomb in enumerate(bombs):
        (tmp_path / f"{number}").write_bytes(b"\x01" + bomb)
    program = (
        "import resource, sys, pathlib\n"
        "from forebay.codecs.compressed import Compressor\n"
        "from forebay.errors import DecodeError\n"
        "compressor = Compressor(above=0, max_bytes=1 << 20)\n"
        "assert compressor.unpack(compressor.pack(bytes(1 << 20))) == bytes(1 << 20)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n"
        "        compressor.unpack(path.read_bytes())\n"
        "    except DecodeError:\n"
        "        print('refused')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    *refused, grown = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert refused == ["refused"] * 4
    assert int(grown) < (16 << 10 if sys.platform == "linux" else 16 << 20)  # KiB there, bytes on macOS


# --- training, options, threads -----------------------------------------------------------------------------------------------------------


def test_training_needs_enough_samples():
    for samples in ([], [b""], [b"abc"], [b"a" * 100] * 3):
        with pytest.raises(SettingsError, match="some hundred different values"):
            train_dictionary(samples)


@pytest.mark.parametrize("samples", [b"one value", "text", ["text"], [b"x", 1]], ids=str)
def test_training_takes_bytes(samples):
    with pytest.raises(SettingsError, match="samples= is not a list of bytes"):
        train_dictionary(samples)


@pytest.mark.parametrize("size", [0, 255, True, 1.5, "1k"])
def test_training_needs_a_size(size):
    with pytest.raises(SettingsError, match="size="):
        train_dictionary(SAMPLES, size)


def test_a_dictionary_is_no_larger_than_asked_and_takes_any_iterable():
    assert len(train_dictionary(iter(SAMPLES), 1024)) <= 1024


def test_the_repr_says_what_it_does():
    assert repr(PLAIN) == "Compressor(above=0, dictionary=None)"
    assert repr(TAUGHT).startswith("Compressor(above=0, dictionary=")


def test_a_failed_compression_does_not_spoil_the_next():
    with pytest.raises(TypeError):
        PLAIN.pack("x" * 100)  # type: ignore[arg-type]
    assert PLAIN.unpack(PLAIN.pack(b"y" * 100)) == b"y" * 100


@pytest.mark.parametrize("compressor", [PLAIN, TAUGHT], ids=repr)
def test_eight_threads_share_one_compressor(compressor):
    start = threading.Barrier(8)
    before = sys.getswitchinterval()

    def work(number):
        start.wait()
        for turn in range(300):
            value = b"%d-%d " % (number, turn) * (1 + turn * 37 % 3000)
            packed = compressor.pack(value)
            assert compressor.unpack(packed) == value
            with pytest.raises(DecodeError):
                compressor.unpack(packed[:-1] if packed[0] else b"")
        return True

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)


def test_threads_that_begin_with_a_new_compressor_do_not_meet():
    for _ in range(20):
        compressor = Compressor(above=0, dictionary=DICTIONARY, max_bytes=1 << 20)
        with ThreadPoolExecutor(8) as threads:
            packed = list(threads.map(compressor.pack, SAMPLES[:64]))
        assert list(map(compressor.unpack, packed)) == SAMPLES[:64]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_packs_and_unpacks():
    packed = TAUGHT.pack(SAMPLES[0])
    child = os.fork()
    if child == 0:
        os._exit(0 if TAUGHT.unpack(packed) == SAMPLES[0] and TAUGHT.pack(SAMPLES[0]) == packed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
