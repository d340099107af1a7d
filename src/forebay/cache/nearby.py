"""The near tier of one cache: its store, and who tells it of changes. Without somebody who tells, it holds nothing."""

from __future__ import annotations

from collections.abc import Callable

from ..port.tracking import Tracking
from .broadcast import Broadcast
from .near import Held, Near

__all__ = ["Nearby"]


class Nearby:
    """A store that hears of changes: through the connections that read (asyncio), or through a broadcast (threads)."""

    def __init__(
        self,
        tracking: Tracking,
        max_entries: int | None,
        max_bytes: int | None,
        broadcast: Broadcast | None,
        trusted: Callable[[], bool] | None = None,
    ) -> None:
        self._tracking = tracking
        self._bounds = (max_entries, max_bytes)
        self._trusted = trusted
        self.broadcast = broadcast
        self.store = Near(max_entries=max_entries, max_bytes=max_bytes)
        #: what is held under a name, and may be served as far as others can tell
        self.lookup: Callable[[str], Held | None] = self.store.held.get if trusted is None else self._lookup
        tracking.follow(self)

    def _lookup(self, name: str) -> Held | None:
        return self.store.held.get(name) if self._trusted is not None and self._trusted() else None

    def another(self) -> Nearby:
        """Return an empty one like this."""
        return Nearby(self._tracking, *self._bounds, self.broadcast, self._trusted)

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
