"""What a server says unasked about keys that changed, and who hears it.

A connection that reads with ``CLIENT CACHING YES`` is told, in order with its replies, when what it read has changed.
"""

from __future__ import annotations

from typing import Final, Protocol

from .resp import Arg, Push, pack

__all__ = ["CACHING", "OPT_IN", "Listener", "names_in"]

OPT_IN: Final[tuple[Arg, ...]] = ("CLIENT", "TRACKING", "ON", "OPTIN")
CACHING: Final = pack(("CLIENT", "CACHING", "YES"))


class Listener(Protocol):
    """Hears of changed keys. *source* is the connection that tracks them: what it said before is void once it is lost."""

    def invalidated(self, source: object, names: list[bytes] | None) -> None:
        """*names* have changed, or may have; None: any key."""

    def lost(self, source: object | None) -> None:
        """Nothing more will be heard through *source* (None: through any), and what was read there may have changed."""


def names_in(push: Push) -> tuple[bool, list[bytes] | None]:
    """Return whether *push* is about changed keys, and their names (None: any key)."""
    if len(push) != 2 or push[0] != b"invalidate":
        return False, None
    return True, push[1]
