"""The bytes of an entry. Bare JSON where nothing needs to be known of it; otherwise its first byte, never JSON's, says what follows.

====  ==========  =====================================================================================
 0    kind        0x01: a value; 0x02: a placeholder, which is its first nine bytes and nothing else
 1    token       eight bytes of whoever fills or refreshes it, zeros for nobody
 9    lease_until until when that lasts, in milliseconds of the server's clock (a big-endian double, as all times)
17    fresh_until until when the value is fresh, ``inf`` for ever
25    nonce       eight random bytes: no two stored entries have the same header
33    load_ms     how long the load took
41    fingerprint eight bytes of the codec and the type
49    count       how many versions follow: each is eight bytes, the length of a name in two bytes, and the name
51    ...         versions, then the payload
====  ==========  =====================================================================================

The versions are those of tags and namespaces when the load began: an entry with one that has changed since is dead.
"""

from __future__ import annotations

import struct
from secrets import token_bytes
from typing import Final

from msgspec import Struct

__all__ = ["HEADER", "Entry", "Malformed", "Versions", "is_placeholder", "new_token", "pack_entry", "placeholder", "read_entry"]

Versions = tuple[tuple[str, bytes], ...]
"""Names (without prefix and namespace of the cache that reads) and their versions."""

VALUE: Final = 1
PLACEHOLDER: Final = 2
NOBODY: Final = bytes(8)
HEADER: Final = struct.Struct(">B8sdd8sd8sH")
_LENGTH: Final = struct.Struct(">8sH")
_LAST_KIND: Final = 8  # first bytes up to this one are ours, also those of versions to come


class Malformed(Exception):
    """The bytes begin like an entry and are none that this version knows."""


class Entry(Struct, frozen=True):
    """What an envelope says. Times are milliseconds of the server's clock."""

    token: bytes
    lease_until: float
    fresh_until: float
    load_ms: float
    fingerprint: bytes
    versions: Versions
    payload: bytes
    header: bytes


def new_token() -> bytes:
    """Return a token that nobody else has."""
    return token_bytes(8)


def placeholder(token: bytes) -> bytes:
    """Return what stands for an entry while it is loaded for the first time."""
    return bytes((PLACEHOLDER,)) + token


def is_placeholder(data: bytes) -> bool:
    """Whether *data* stands for a load under way."""
    return len(data) == 9 and data[0] == PLACEHOLDER


def is_enveloped(data: bytes) -> bool:
    """Whether *data* is ours and not bare JSON."""
    return 0 < data[0] <= _LAST_KIND if data else False


def pack_entry(payload: bytes, *, fresh_until: float, load_ms: float, fingerprint: bytes, versions: Versions) -> bytes:
    """Return the envelope of *payload*, leased by nobody."""
    head = HEADER.pack(VALUE, NOBODY, 0.0, fresh_until, token_bytes(8), load_ms, fingerprint, len(versions))
    names = b"".join(_LENGTH.pack(version, len(name)) + name for name, version in ((name.encode(), each) for name, each in versions))
    return head + names + payload


def read_entry(data: bytes) -> Entry:
    """Return what *data*, an envelope, says.

    Raises:
        Malformed: it is damaged, or of a version to come.
    """
    if data[0] != VALUE:
        raise Malformed(f"an entry of kind {data[0]}, which this version of Forebay does not know")
    try:
        _, token, lease_until, fresh_until, _, load_ms, fingerprint, count = HEADER.unpack_from(data)
        at = HEADER.size
        versions = []
        for _ in range(count):
            version, length = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            versions.append((data[at - length : at].decode(), version))
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed("a damaged entry") from error
    if at >= len(data) or not (lease_until >= 0 and load_ms >= 0 and fresh_until >= 0):  # also what is no number
        raise Malformed("a damaged entry")
    return Entry(token, lease_until, fresh_until, load_ms, fingerprint, tuple(versions), data[at:], data[: HEADER.size])
