"""The fields of a session's hash. Metadata begin with ``#`` and are always there, so that an empty reply means "not found".

Items of the application begin with ``=``, Forebay's own with ``~``; ``!`` before one of these names holds when that item ends.
Everything that comes from Redis is untrusted: what cannot be read is no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..errors import DecodeError

__all__ = ["Device", "Record", "pack_device", "read_record", "unpack_device"]

_METADATA: Final = ord("#")
_ITEMS: Final = b"=~"
_ENDS: Final = ord("!")
_LONGEST: Final = 512  # characters of what a client says of itself


class Device(Struct, frozen=True):
    """From where a session is used: what the client says of itself (its user agent), and its address."""

    agent: str = ""
    address: str = ""


class Record(Struct):
    """A session as it was read. Times are milliseconds of the server's clock."""

    version: int
    user: str | None
    created: int
    seen: int
    ends: int
    idle: int
    epoch: bytes
    device: Device
    leaving: bool
    items: dict[str, bytes]
    lives: dict[str, int]

    @property
    def expires(self) -> int:
        """When it ends if nothing more happens."""
        return min(self.seen + self.idle, self.ends)


def read_record(reply: Mapping[bytes, bytes]) -> Record:
    """Return what *reply*, a whole hash that is not empty, says.

    Raises:
        DecodeError: it says nothing that can be understood.
    """
    items: dict[str, bytes] = {}
    lives: dict[str, int] = {}
    try:
        for field, value in reply.items():
            kind = field[0]
            if kind == _METADATA:  # most are
                continue
            if kind in _ITEMS:
                items[field.decode()] = value
            elif kind == _ENDS:
                lives[field[1:].decode()] = int(value)
        user = reply[b"#u"].decode()
        return Record(
            int(reply[b"#v"]),
            user[1:] if user else None,
            int(reply[b"#c"]),
            int(reply[b"#s"]),
            int(reply[b"#a"]),
            int(reply[b"#i"]),
            reply[b"#e"],
            _DEVICE.decode(reply[b"#d"]),
            b"#g" in reply,
            items,
            lives,
        )
    except (LookupError, ValueError, msgspec.DecodeError) as error:
        raise DecodeError(f"a session's hash cannot be read: {type(error).__name__}") from error


def pack_device(device: Device | str | None) -> bytes:
    """Return what is stored of *device*; text is the client's name for itself. What a client sends without end is cut."""
    if device is None or isinstance(device, str):
        device = Device(agent=device or "")
    return _ENCODER.encode(Device(agent=_clean(device.agent), address=_clean(device.address)))


def unpack_device(packed: bytes) -> Device:
    """Return what was packed."""
    return _DEVICE.decode(packed)


def _clean(text: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(text)[:_LONGEST])


_DEVICE: Final = msgspec.json.Decoder(Device)
_ENCODER: Final = msgspec.json.Encoder()
