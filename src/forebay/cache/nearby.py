"""The near tier of one cache: its store, and who tells it of changes. Without somebody who tells, it holds nothing."""

from __future__ import annotations

from ..port.tracking import Tracking
from .broadcast import Broadcast
from .near import Near

__all__ = ["Nearby"]


class Nearby:
    """A store that hears of changes: through the connections that read (asyncio), or through a broadcast (threads)."""

    def __init__(self, tracking: Tracking, max_entries: int | None, max_bytes: int | None, broadcast: Broadcast | None) -> None:
        self._tracking = tracking
        self._bounds = (max_entries, max_bytes)
        self.broadcast = broadcast
        self.store = Near(max_entries=max_entries, max_bytes=max_bytes)
        tracking.follow(self)

    def another(self) -> Nearby:
        """Return an empty one like this."""
        return Nearby(self._tracking, *self._bounds, self.broadcast)

    # port.tracking.Follower

    def drop(self, name: bytes) -> None:
        self.store.drop(name.decode(errors="replace"))

    def drop_under(self, head: bytes) -> None:
        self.store.drop_under(head.decode(errors="replace"))

    def drop_all(self, source: object | None) -> None:
        if source is None:
            self.store.clear()
        else:
            self.store.drop_source(source)

    def __repr__(self) -> str:
        return f"<Nearby {self.store!r}>"
