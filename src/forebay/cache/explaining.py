"""What the bytes of an entry say, in words: for people who look at a cache from outside. Nothing here decides anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..codecs.coding import MAX_BYTES
from ..codecs.fingerprint import fingerprint
from .entry import NOBODY, Malformed, Versions, is_enveloped, is_placeholder, read_entry

__all__ = ["Explanation", "Version", "codec_of", "explain", "in_json", "payload_of", "recorded"]

_SEALED: Final = "aes-256-gcm"  # what `codecs.sealed` calls itself: importing it would need the extra
_ZSTD_FRAME: Final = b"\x28\xb5\x2f\xfd"
_LOADER: Final = "the loader"
_HOLDER: Final = "whoever holds the lease; others wait"
_UNKNOWN: Final = "sealed, or unknown"
_EITHER: Final = "JSON or msgpack: its one byte is a number in both"


class Version(Struct, frozen=True):
    """A version that an entry recorded, and what it is now; both in hexadecimal, None where it is gone."""

    state: str
    recorded: str
    current: str | None


class Explanation(Struct, frozen=True):
    """One entry. Times are seconds; None where there is none, or where nobody can tell."""

    key: str
    state: str
    served_from: str
    codec: str | None = None
    size: int | None = None
    memory: int | None = None
    fresh_for: float | None = None
    kept_for: float | None = None
    fresh_until: str | None = None
    leased_for: float | None = None
    lease: str | None = None
    load_seconds: float | None = None
    fingerprint: str | None = None
    versions: dict[str, Version] = {}

    @property
    def readable(self) -> bool:
        """Whether a read may answer with it: it is neither missing nor dead, nor a placeholder or damaged."""
        return self.served_from not in (_LOADER, _HOLDER)


def explain(key: str, data: bytes | None, left: int, now: float, current: Mapping[str, bytes | None], memory: int | None) -> Explanation:
    """Say what *data* is, read *now* (milliseconds of the server) with *left* milliseconds to live, given the *current* versions."""
    kept = None if left < 0 else left / 1000
    if data is None:
        return Explanation(key, "missing", _LOADER)
    size = len(data)
    if is_placeholder(data):
        return Explanation(key, "being loaded: a lease is held", _HOLDER, size=size, memory=memory, leased_for=kept, lease=data[1:].hex())
    if not is_enveloped(data):
        codec = codec_of(data)
        if codec != "JSON":
            return Explanation(key, "bare, and no JSON: no cache reads it", _LOADER, codec, size, memory, kept_for=kept)
        return Explanation(key, "fresh, bare", "the server", codec, size, memory, kept, kept)
    try:
        entry = read_entry(data)
    except Malformed as error:
        return Explanation(key, str(error), _LOADER, size=size, memory=memory, kept_for=kept)
    versions = {name: _compared(version, current.get(name)) for name, version in entry.versions}
    fresh = None if entry.fresh_until == math.inf else (entry.fresh_until - now) / 1000
    leased = (entry.lease_until - now) / 1000 if entry.token != NOBODY and entry.lease_until > now else None
    dead = [name for name, version in versions.items() if version.state != "current"]
    if dead:
        state, source = f"dead: {', '.join(dead)} changed since", _LOADER
    elif fresh is None or fresh > 0:
        state, source = "fresh", "the server"
    else:
        state, source = "stale", "the stale copy while it is refreshed, or where the loader fails, as far as the cache allows it"
    return Explanation(
        key=key,
        state=state,
        served_from=source,
        codec=codec_of(entry.payload, entry.fingerprint),
        size=size,
        memory=memory,
        fresh_for=fresh,
        kept_for=kept,
        fresh_until=_as_time(entry.fresh_until),
        leased_for=leased,
        lease=None if leased is None else entry.token.hex(),
        load_seconds=entry.load_ms / 1000,
        fingerprint=entry.fingerprint.hex(),
        versions=versions,
    )


def recorded(data: bytes | None) -> Versions:
    """Return the versions that an entry recorded; none where it records none, or cannot be read."""
    if data is None or is_placeholder(data) or not is_enveloped(data):
        return ()
    try:
        return read_entry(data).versions
    except Malformed:
        return ()


def payload_of(data: bytes) -> tuple[bytes, bytes | None]:
    """Return the encoded value within *data*, and its fingerprint if it has one. Only for what is `Explanation.readable`."""
    if not is_enveloped(data):
        return data, None
    entry = read_entry(data)
    return entry.payload, entry.fingerprint


def _compared(recorded: bytes, current: bytes | None) -> Version:
    state = "current" if recorded == current else "gone" if current is None else "changed"
    return Version(state, recorded.hex(), None if current is None else current.hex())


def _as_time(milliseconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError):  # for ever, or as good as that
        return None


def codec_of(payload: bytes, mark: bytes | None = None) -> str:
    """Return how *payload* was encoded: as its fingerprint *mark* tells, or where that names a type of the application, as its bytes do."""
    known = _known_marks().get(mark) if mark is not None else None
    if known is None:
        return _guessed(payload, enveloped=mark is not None)
    codec, transforms = known
    if _SEALED in transforms:
        return f"{codec}, sealed"
    return f"{codec}, {_packing(payload)}" if transforms else codec


def in_json(payload: bytes, mark: bytes | None = None) -> bytes | None:
    """Return the value as JSON; None where it cannot be shown without the cache's own options.

    Raises:
        DecodeError: what is compressed is damaged.
        SettingsError: it is compressed, and there is no zstd here.
    """
    codec = codec_of(payload, mark)
    if codec in (_UNKNOWN, _EITHER) or codec.endswith(("sealed", "dictionary")):
        return None
    if codec.endswith("not compressed"):
        payload = payload[1:]
    elif codec.endswith("zstd"):
        from ..codecs.compressed import Compressor

        payload = Compressor(above=0, max_bytes=MAX_BYTES).unpack(payload)
    if not codec.startswith("msgpack") and _is_json(payload):
        return payload
    return None if codec.startswith("JSON") else _translated(payload)


def _guessed(payload: bytes, *, enveloped: bool) -> str:
    if enveloped and len(payload) == 1 and payload.isdigit():
        return _EITHER  # the byte of "1" is msgpack for 49
    if _is_json(payload):
        return "JSON"
    if not enveloped:
        return _UNKNOWN
    if len(payload) > 1 and payload[0] == 0:
        inner = _guessed(payload[1:], enveloped=True)
        return f"{inner}, not compressed" if inner in ("JSON", "msgpack") else inner
    if payload[:1] in (b"\x01", b"\x02") and _ZSTD_FRAME in payload[1:9]:
        return _packing(payload)
    return "msgpack" if _translated(payload) is not None else _UNKNOWN


def _packing(payload: bytes) -> str:
    return {b"\x00": "not compressed", b"\x02": "zstd with a dictionary"}.get(payload[:1], "zstd")


@cache
def _known_marks() -> dict[bytes, tuple[str, tuple[str, ...]]]:
    """Fingerprints of caches whose type is one of everybody's."""
    types = (None, int, str, float, bool, bytes, dict, list)
    steps = ((), ("zstd",), (_SEALED,), ("zstd", _SEALED))
    return {
        fingerprint(codec.lower(), type_, transforms): (codec, transforms)
        for codec in ("JSON", "msgpack")
        for type_ in types
        for transforms in steps
    }


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True


def _translated(data: bytes) -> bytes | None:
    try:
        return msgspec.json.encode(msgspec.msgpack.decode(data), enc_hook=_extension)
    except (msgspec.DecodeError, ValueError, RecursionError, TypeError):  # TypeError: msgpack has keys that JSON has not
        return None


def _extension(value: Any) -> Any:
    if isinstance(value, msgspec.msgpack.Ext):
        return {"extension": value.code, "data": bytes(value.data)}
    raise TypeError(f"JSON has no {type(value).__name__}")
