"""Tags and namespaces are versions: random bits that an entry records before it is loaded. A version that changed or is gone kills it.

An invalidation deletes the version's key: whoever needs one next makes a new one. Never counters, which an eviction would
begin again and so revive dead entries; never clocks; never lists of members, which grow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from secrets import token_bytes
from typing import Final

from ..port.port import Arg, Port, raise_refusal
from .entry import Versions
from .near import Held, Near

__all__ = ["VersionBook"]

_SHORTEST: Final = 24 * 3600 * 1000  # milliseconds that a version lives at least: it is then rarely asked to live longer
_KNOWN: Final = 100_000
_GONE: Final = b""


class VersionBook:
    """The versions of one bay, and those of them that this process knows to be current because they are tracked."""

    def __init__(self, port: Port, prefix: str, *, splits: bool) -> None:
        self._port = port
        self._prefix = prefix
        self.splits = splits  # the keys may be on several nodes
        self.near = Near(max_entries=_KNOWN, max_bytes=None)
        self._lives_until: dict[str, tuple[bytes, float]] = {}  # of which version that was learned: another one may live shorter
        port.tracking.follow(self)

    # port.tracking.Follower

    def drop(self, name: bytes) -> None:
        self.near.drop(name.decode(errors="replace"))

    def drop_under(self, head: bytes) -> None:
        self.near.drop_under(head.decode(errors="replace"))

    def drop_all(self, source: object | None) -> None:
        if source is None:
            self.near.clear()
        else:
            self.near.drop_source(source)

    def holds(self, versions: Versions) -> bool | None:
        """Whether *versions* are current as far as is known here, through any connection; None if that is not known."""
        held = self.near.held
        for name, version in versions:
            known = held.get(self._prefix + name)
            if known is None:
                return None
            if known.data != version:
                return False
        return True

    async def current(self, versions: Versions, source: object | None, listens: object | None = None) -> bool:
        """Whether *versions* are current, for an entry whose reply came through *source*.

        What is known counts only if it is tracked on that very connection: then a change would have been told before the
        entry's reply. Everything else is asked for now, and known from then on if it is tracked or *listens*, a broadcast, tells.

        Raises:
            Unavailable, ServerError: it could not be asked.
        """
        unknown: dict[str, bytes] = {}
        for name, version in versions:
            known = self.near.held.get(self._prefix + name)
            if known is None or source is None or known.source is not source:
                unknown[name] = version
            elif known.data != version:
                return False
        if not unknown:
            return True
        found = await self._fetch(list(unknown), listens)
        return all(one == version for one, version in zip(found, unknown.values(), strict=True))

    async def all_current(self, names: Iterable[str], listens: object | None = None) -> dict[str, bytes | None]:
        """Return the current versions of *names*, asked for now, in one round trip.

        Raises:
            Unavailable, ServerError: they could not be asked for.
        """
        wanted = list(dict.fromkeys(names))
        return dict(zip(wanted, await self._fetch(wanted, listens), strict=True)) if wanted else {}

    async def _fetch(self, names: Sequence[str], listens: object | None) -> list[bytes | None]:
        """Read versions from the server, tracked where that can be, or told of by the broadcast that *listens* since before."""
        full = [self._prefix + name for name in names]
        groups = [[name] for name in full] if self.splits else [full]
        found: list[bytes | None] = []
        for group in groups:
            keys = [name.encode() for name in group]
            markers = [self.near.begin(name) for name in group]
            values: Sequence[bytes | None] | None = None
            source: object | None = None
            try:
                (reply,), source = await self._port.track(keys[0], [("mget", *keys)], told=listens is None)
                source = listens or source
                raise_refusal([reply])
                values = reply
            finally:
                for marker, value in zip(markers, values or [None] * len(markers), strict=True):
                    known = source is not None and values is not None
                    held = Held(data=value or _GONE, source=source, size=len(marker.name) + 8) if known else None
                    self.near.settle(marker, held)
            found += values
        return found

    async def record(self, names: Iterable[str], kept: float | None) -> Versions:
        """Return the versions of *names* as they are now, for an entry that is kept for so many milliseconds (None: for ever).

        Missing ones are made; all will live at least as long as the entry. One that is known here may be used although it
        changed just now: then the entry is born dead, which harms nobody.

        Raises:
            Unavailable, ServerError: they could not be read.
        """
        wanted = list(dict.fromkeys(names))
        lives = math.inf if kept is None else max(2 * kept, _SHORTEST)
        now = time.monotonic() * 1000
        recorded: dict[str, bytes] = {}
        for name in wanted:
            known = self.near.held.get(self._prefix + name)
            if known is None or not known.data:
                continue
            version, until = self._lives_until.get(name, (_GONE, 0.0))
            if version == known.data and until >= now + (math.inf if kept is None else kept):
                recorded[name] = version
        missing = [name for name in wanted if name not in recorded]
        if missing:
            commands: list[tuple[Arg, ...]] = []
            fresh = [token_bytes(8) for _ in missing]
            for name, version in zip(missing, fresh, strict=True):
                key = self._prefix + name
                if lives == math.inf:
                    commands += [("set", key, version, "NX", "GET"), ("persist", key)]
                else:
                    commands += [("set", key, version, "NX", "GET", "PX", int(lives)), ("pexpire", key, int(lives), "GT")]
            # Never repeated with the same bits after an unknown outcome: the first may have made them, somebody may have recorded
            # them, and an invalidation ended them meanwhile. Then they would rise again, with every entry that has them.
            replies = await self._port.execute_many(commands)
            raise_refusal(replies)
            if len(self._lives_until) > _KNOWN:
                self._lives_until.clear()
            for name, version, found in zip(missing, fresh, replies[::2], strict=True):
                recorded[name] = one = version if found is None else found
                self._lives_until[name] = (one, now + lives)
        return tuple((name, recorded[name]) for name in wanted)

    async def read(self, names: Iterable[str]) -> Versions:
        """Return the versions of *names* from the server, with empty ones for those that are missing.

        Raises:
            Unavailable, ServerError: they could not be read.
        """
        wanted = list(dict.fromkeys(names))
        found = await self._port.execute("mget", *(self._prefix + name for name in wanted)) if wanted else []
        return tuple((name, version or _GONE) for name, version in zip(wanted, found, strict=True))

    async def change(self, *groups: Sequence[str]) -> None:
        """Change the versions of all names, group after group.

        Raises:
            Unavailable, ServerError: they may not have changed.
        """
        for names in groups:
            full = [self._prefix + name for name in names]
            keys = [name.encode() for name in full]
            self._port.tracking.changed(keys)
            try:
                await self._port.execute("UNLINK", *full, idempotent=True)
            finally:
                self._port.tracking.changed(keys)

    def __repr__(self) -> str:
        return f"<VersionBook, {len(self.near.held)} known>"
