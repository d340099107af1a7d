"""What the bytes of an entry say, in words: for people who look at a cache from outside. Nothing here decides anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from .entry import NOBODY, Malformed, Versions, is_enveloped, is_placeholder, read_entry

__all__ = ["Explanation", "codec_of", "explain", "payload_of", "recorded", "shown"]


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
    leased_for: float | None = None
    load_seconds: float | None = None
    fingerprint: str | None = None
    versions: dict[str, str] = {}


def explain(key: str, data: bytes | None, left: int, now: float, current: Mapping[str, bytes | None], memory: int | None) -> Explanation:
    """Say what *data* is, read *now* (milliseconds of the server) with *left* milliseconds to live, given the *current* versions."""
    kept = None if left < 0 else left / 1000
    if data is None:
        return Explanation(key, "missing", "the loader")
    size = len(data)
    if is_placeholder(data):
        return Explanation(
            key, "being loaded: a lease is held", "whoever holds the lease; others wait", size=size, memory=memory, leased_for=kept
        )
    if not is_enveloped(data):
        state = "fresh, bare" if codec_of(data) == "JSON" else "bare, and no JSON: not from this library"
        return Explanation(key, state, "the server", codec_of(data), size, memory, kept, kept)
    try:
        entry = read_entry(data)
    except Malformed as error:
        return Explanation(key, str(error), "the loader", size=size, memory=memory, kept_for=kept)
    versions = {name: "current" if current.get(name) == version else "changed" for name, version in entry.versions}
    fresh = None if entry.fresh_until == math.inf else (entry.fresh_until - now) / 1000
    leased = (entry.lease_until - now) / 1000 if entry.token != NOBODY and entry.lease_until > now else None
    dead = [name for name, state in versions.items() if state == "changed"]
    if dead:
        state, source = f"dead: {', '.join(dead)} changed since", "the loader"
    elif fresh is None or fresh > 0:
        state, source = "fresh", "the server"
    else:
        state, source = "stale", "the stale copy while it is refreshed, or where the loader fails, as far as the cache allows it"
    return Explanation(
        key=key,
        state=state,
        served_from=source,
        codec=codec_of(entry.payload),
        size=size,
        memory=memory,
        fresh_for=fresh,
        kept_for=kept,
        leased_for=leased,
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


def payload_of(data: bytes) -> bytes | None:
    """Return the encoded value within *data*; None where there is none, or it cannot be read."""
    if is_placeholder(data):
        return None
    if not is_enveloped(data):
        return data
    try:
        return read_entry(data).payload
    except Malformed:
        return None


def codec_of(payload: bytes) -> str:
    """Return how *payload* was encoded, as far as its bytes tell."""
    if _json(payload)[0]:
        return "JSON"
    if payload[:1] == b"\x00" and _json(payload[1:])[0]:
        return "JSON, not compressed"
    if payload[:1] in b"\x01\x02" and b"\x28\xb5\x2f\xfd" in payload[1:9]:
        return "zstd" + (" with a dictionary" if payload[:1] == b"\x02" else "")
    try:
        msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "sealed, or unknown"
    return "msgpack"


def shown(payload: bytes) -> tuple[bool, Any]:
    """Return whether the value can be shown without the cache's own options, and the value."""
    for data in (payload, payload[1:] if payload[:1] == b"\x00" else b""):
        found, value = _json(data)
        if found:
            return True, value
    codec = codec_of(payload)
    if codec == "zstd":
        from ..codecs.compressed import Compressor

        return _json(Compressor(above=0, dictionary=None, max_bytes=64 * 1024 * 1024).unpack(payload))
    return (True, msgspec.msgpack.decode(payload)) if codec == "msgpack" else (False, None)


def _json(data: bytes) -> tuple[bool, Any]:
    try:
        return True, msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False, None
