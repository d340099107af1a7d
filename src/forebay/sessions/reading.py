"""Reads of sessions: one round trip each, and what cannot be read, was revoked or has lost its epoch counts as none."""

from __future__ import annotations

from time import monotonic
from typing import Final

from ..errors import DecodeError
from ..events import Reporter, SessionUnreadable
from ..port.clock import ServerClock
from ..port.port import Port, Reply, raise_refusal
from ..wire.resp import Arg
from .record import Record, read_record
from .token import Keys, Token

__all__ = ["Reading"]

_TOGETHER: Final = 500  # sessions read in one write


class Reading:
    """Reads the sessions under *base*, ``<prefix>session:``."""

    def __init__(self, port: Port, base: str, reporter: Reporter, clock: ServerClock) -> None:
        self._port = port
        self._base = base
        self._reporter = reporter
        self._clock = clock

    async def read(self, token: Token) -> Record | None:
        """Return what is stored, if it counts: it is there, can be read, and was not revoked."""
        key, _, epoch = Keys(self._base, token.tag).of(token.digest)
        commands: list[tuple[Arg, ...]] = [("HGETALL", key), ("GET", epoch)]
        asks = self._clock.due
        if asks:
            commands.append(("TIME",))
        began = monotonic()
        replies, _ = await self._port.track(key.encode(), commands, told=False)  # the shortest way for reads of one slot
        raise_refusal(replies)
        if asks:
            self._clock.take(replies[2], began)
        return self._judged(token.digest, replies[0], replies[1])

    async def now(self) -> float:
        """Return the server's clock, asked for if the estimate is old."""
        if self._clock.due:
            began = monotonic()
            self._clock.take(await self._port.execute("TIME"), began)
        return self._clock.now()

    async def all_of(self, keys: Keys) -> list[tuple[str, Record]]:
        """Return the digests and records of a user's sessions; what ended without a trace is removed from the index."""
        replies = await self._port.execute_many([("ZRANGE", keys.index, 0, -1), ("GET", keys.epoch)], idempotent=True)
        raise_refusal(replies)
        digests, epoch = [digest.decode() for digest in replies[0]], replies[1]
        found: list[tuple[str, Record]] = []
        gone: list[Arg] = []
        for at in range(0, len(digests), _TOGETHER):
            some = digests[at : at + _TOGETHER]
            hashes = await self._port.execute_many([("HGETALL", keys.base + digest) for digest in some], idempotent=True)
            raise_refusal(hashes)
            for digest, fields in zip(some, hashes, strict=True):
                record = self._judged(digest, fields, epoch)
                if record is None:
                    gone.append(digest)
                elif not record.leaving:
                    found.append((digest, record))
        if gone:
            await self._port.execute("ZREM", keys.index, *gone, idempotent=True)
        return found

    def _judged(self, digest: str, fields: Reply, epoch: Reply) -> Record | None:
        if not fields:
            return None
        try:
            record = read_record(fields)
        except DecodeError as error:
            self._reporter.report(SessionUnreadable(error))
            return None
        if record.user is not None and (epoch is None or (epoch[:16] != record.epoch and epoch[17:] != digest.encode())):
            return None
        return record

    def __repr__(self) -> str:
        return f"Reading({self._base!r})"
