"""A key's slot is CRC16 of its name, or of its ``{tag}``, modulo 16384 (the Redis cluster specification)."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from typing import Final

from ..errors import CrossSlot
from .resp import Arg

__all__ = ["SLOTS", "common_slot", "slot_of"]

SLOTS: Final = 16384
_SHOWN: Final = 5


def slot_of(key: Arg) -> int:
    """Return the slot of *key*. Of several ``{...}`` the first counts, and an empty one does not."""
    name = key.encode() if type(key) is str else key if type(key) is bytes else _bytes_of(key)
    if b"{" in name:
        start = name.index(b"{") + 1
        end = name.find(b"}", start)
        if end > start:
            name = name[start:end]
    return crc_hqx(name, 0) % SLOTS


def common_slot(keys: Sequence[Arg], what: str) -> int | None:
    """Return the slot that all *keys* share, None if there are no keys.

    Raises:
        CrossSlot: they are in several slots; the message names keys.
    """
    slots = {slot_of(key) for key in keys}
    if len(slots) > 1:
        raise CrossSlot(
            f"{what} has keys in {len(slots)} slots of the cluster ({_shown(keys)}): give them a common {{tag}}, "
            "as in 'cart:{42}' and 'user:{42}', or send one command for each"
        )
    return slots.pop() if slots else None


def _bytes_of(key: Arg) -> bytes:
    if isinstance(key, str):
        return str.encode(key)
    return bytes(key) if isinstance(key, bytes | bytearray | memoryview) else str(key).encode()


def _shown(keys: Iterable[Arg]) -> str:
    names = [key if isinstance(key, str) else _bytes_of(key).decode("utf-8", "backslashreplace") for key in dict.fromkeys(keys)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name if len(name) <= 60 else name[:57] + "...") for name in names[:_SHOWN]) + more
