"""zstd for what is larger than a threshold. The first byte says how the rest is to be read; reading is bounded, whatever it says.

    0x00  the rest as it is
    0x01  a zstd frame
    0x02  four bytes that name a dictionary (of its SHA-256), and a zstd frame compressed with it

Every frame declares its size and ends in a checksum, so that damage is found and nothing is expanded beyond `max_bytes`.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

from ..errors import DecodeError, SettingsError

__all__ = ["Compressor", "train_dictionary"]

_RAW: Final = b"\x00"
_ZSTD: Final = b"\x01"
_WITH_DICTIONARY: Final = b"\x02"
_ID_BYTES: Final = 4
_LEVEL: Final = 3  # zstd's own default


class Compressor:
    """Packs bytes, and unpacks what any other `Compressor` packed, if it has the same dictionary or none was used.

    Threads share it: each has a context of its own for compression (a new one for each value would cost ten times as much
    as a small value does), and each call has its own for decompression.

    Args:
        above: compress what is larger than so many bytes, and only if that makes it smaller.
        dictionary: from `train_dictionary`, or None.
        max_bytes: nothing is expanded beyond so many bytes.

    Raises:
        SettingsError: there is no zstd, or *dictionary* is none.
    """

    kind: Final = "zstd"

    def __init__(self, *, above: int, dictionary: bytes | None = None, max_bytes: int) -> None:
        zstd = _zstd("compress_above=")
        self.above = above
        self.max_bytes = max_bytes
        self._zstd: Any = zstd
        self._contexts = threading.local()
        self._options = {
            zstd.CompressionParameter.compression_level: _LEVEL,
            zstd.CompressionParameter.checksum_flag: 1,
            zstd.CompressionParameter.dict_id_flag: 0,  # the marker names the dictionary, by what is in it
        }
        self._dictionary: Any = None
        self._id = b""
        self._marker = _ZSTD
        if dictionary is not None:
            self._dictionary, self._id = _load(zstd, dictionary), hashlib.sha256(dictionary).digest()[:_ID_BYTES]
            self._marker = _WITH_DICTIONARY + self._id
            self._try_dictionary()

    def pack(self, data: bytes) -> bytes:
        """Return *data* behind its marker, compressed if it is large enough to gain by it."""
        if len(data) <= self.above:
            return _RAW + data
        packed: bytes = self._marker + self._compress(data)
        return packed if len(packed) <= len(data) else _RAW + data

    def unpack(self, packed: bytes) -> bytes:
        """Return what was packed.

        Raises:
            DecodeError: it is damaged or foreign, was compressed with another dictionary, or would expand beyond `max_bytes`.
        """
        marker = packed[:1]
        if marker == _RAW:
            return packed[1:]
        if marker == _ZSTD:
            return self._expand(packed[1:], None)
        if marker == _WITH_DICTIONARY:
            named = packed[1 : 1 + _ID_BYTES]
            if self._dictionary is None or named != self._id:
                has = f"has {self._id.hex()}" if self._dictionary is not None else "has none"
                raise DecodeError(f"compressed with the dictionary {named.hex()}, and this cache {has}: give it dictionary=")
            return self._expand(packed[1 + _ID_BYTES :], self._dictionary)
        raise DecodeError("not compressed by this cache: unknown marker" if marker else "nothing there: not even a marker")

    def _compress(self, data: bytes) -> bytes:
        context = getattr(self._contexts, "compressor", None) or self._zstd.ZstdCompressor(
            options=self._options, zstd_dict=self._dictionary
        )
        self._contexts.compressor = None  # unless the frame is finished below, the context would go on with it
        frame: bytes = context.compress(data, context.FLUSH_FRAME)
        self._contexts.compressor = context
        return frame

    def _expand(self, frame: bytes, dictionary: Any) -> bytes:
        try:
            size = self._zstd.get_frame_info(frame).decompressed_size
            if size is None or size > self.max_bytes:
                raise DecodeError(f"would expand to {size or 'unknown'} bytes, and max_bytes={self.max_bytes} is the limit")
            reader = self._zstd.ZstdDecompressor(zstd_dict=dictionary)
            data: bytes = reader.decompress(frame, max_length=size + 1)  # one more, so that the checksum is reached
        except self._zstd.ZstdError:
            raise DecodeError("damaged: zstd cannot read it") from None
        if not reader.eof or len(data) != size or reader.unused_data:
            raise DecodeError("damaged: the zstd frame does not end where it should")
        return data

    def _try_dictionary(self) -> None:
        """Raise `SettingsError` now for a dictionary that begins like one and cannot be used."""
        try:
            self._expand(self._compress(b"forebay"), self._dictionary)
        except (DecodeError, self._zstd.ZstdError, ValueError):
            raise SettingsError(_NO_DICTIONARY) from None

    def __repr__(self) -> str:
        return f"Compressor(above={self.above}, dictionary={self._id.hex() or None})"


def train_dictionary(samples: Iterable[bytes], size: int = 32 * 1024) -> bytes:
    """Return a dictionary of at most *size* bytes that holds what the *samples* have in common.

    The samples are encoded values, as ``msgspec.json.encode(value)`` gives them: some hundred or more, and together at least
    ten times *size*, better a hundred times. Keep the result in a file: every process that shares a cache needs the same one,
    and values that were compressed with another read as misses.

    Raises:
        SettingsError: there is no zstd, *size* is too small, or the samples are too few or too much alike to learn from.
    """
    zstd = _zstd("train_dictionary()")
    if isinstance(size, bool) or not isinstance(size, int) or size < 256:
        raise SettingsError(f"size={size!r} is too small for a dictionary: give at least 256 bytes")
    seen: list[object] = list(samples)
    if not all(isinstance(sample, bytes) for sample in seen):  # one value would be an iterable of numbers, or of letters
        raise SettingsError("samples= is not a list of bytes: give many encoded values, as msgspec.json.encode() returns them")
    try:
        trained: bytes = zstd.train_dict(seen, size).dict_content
    except (zstd.ZstdError, ValueError):
        raise SettingsError(f"{len(seen)} samples cannot be learned from: give some hundred different values, or a smaller size=") from None
    return trained


_NO_DICTIONARY: Final = "dictionary= is not a zstd dictionary: give what train_dictionary() returned"


def _load(zstd: Any, dictionary: object) -> Any:
    if not isinstance(dictionary, bytes):
        raise SettingsError(f"dictionary= is a {type(dictionary).__name__}, not bytes: give what train_dictionary() returned")
    try:
        return zstd.ZstdDict(dictionary)
    except (ValueError, zstd.ZstdError):
        raise SettingsError(_NO_DICTIONARY) from None


def _zstd(asked_by: str) -> ModuleType:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise SettingsError(f"{asked_by} needs zstd, which is not installed: pip install 'forebay[zstd]'") from None
    return zstd
