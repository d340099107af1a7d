"""Reads of sessions: one round trip each, and what cannot be read, was revoked or has lost its epoch counts as none."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from ..codecs.coding import Coding
from ..errors import DecodeError, Refused, ServerError, SessionNotFound, Unavailable
from ..events import Reporter, SessionItemLost, SessionUnreadable
from ..port.clock import ServerClock
from ..port.port import Port, Reply, raise_refusal
from ..wire.node import Asked
from ..wire.resp import Arg
from .record import Record, read_record
from .session import Session
from .token import Keys, Token, Tokens

__all__ = ["Question", "Reading"]

_TOGETHER: Final = 500  # sessions read in one write
_TOLERANCE: Final = 1000.0  # milliseconds by which the estimate of the server's clock may be wrong


class Question:
    """A session that is asked for. Where the port can, its commands are on their way already."""

    __slots__ = ("asked", "began", "commands", "token")

    def __init__(self, token: Token, commands: Sequence[tuple[Arg, ...]], asked: Asked | None) -> None:
        self.token = token
        self.commands = commands
        self.asked = asked
        self.began = monotonic()

    def abandon(self) -> None:
        """Wait for it no more."""
        if self.asked is not None and not self.asked.cancel() and not self.asked.cancelled():
            self.asked.exception()  # it has been heard


class Reading:
    """Reads the sessions under *base*, ``<prefix>session:``."""

    def __init__(self, port: Port, base: str, reporter: Reporter, clock: ServerClock, tokens: Tokens, coding: Coding[Any]) -> None:
        self._port = port
        self._base = base
        self._reporter = reporter
        self._clock = clock
        self._tokens = tokens
        self._coding = coding

    def ask(self, id: object) -> Question:  # noqa: A002 - the word for it
        """Ask for the session of *id*, as a client presents it, ahead of `answer` where the port can.

        Raises:
            SessionNotFound: it cannot be an id. Nothing is asked.
        """
        token = self._tokens.read(id)
        names = Keys(self._base, token.tag)
        key = (names.base + token.digest).encode()
        commands: tuple[tuple[Arg, ...], ...] = (("HGETALL", key), ("GET", names.epoch))
        if self._clock.due:
            commands = (*commands, ("TIME",))
        return Question(token, commands, self._port.ahead(key, commands))

    async def answer(self, question: Question) -> Session:
        """Return the session that was asked for.

        Raises:
            SessionNotFound: there is none.
            Unavailable: it is not known whether there is one.
        """
        asked, commands = question.asked, question.commands
        if asked is None:
            replies = await self._port.execute_many(commands)
        else:
            try:
                replies = await asked
            except Unavailable as error:
                replies = await self._port.read_again(error, commands)
        for reply in replies:
            if isinstance(reply, ServerError):
                if isinstance(reply, Refused) and asked is not None:
                    replies = await self._port.read_again(None, commands)
                raise_refusal(replies)
        if len(replies) == 3:
            self._clock.take(replies[2], question.began)
        now = self._clock.now()
        record = self._judged(question.token.digest, replies[0], replies[1])
        if record is None or record.expires <= now - _TOLERANCE:  # somebody took its lifetime away
            raise SessionNotFound
        return Session(question.token, record, self._base, self._coding, self._lost, now)

    def session(self, token: Token, record: Record, now: float) -> Session:
        """Return what was read, as it is used."""
        return Session(token, record, self._base, self._coding, self._lost, now)

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

    def _lost(self, name: str, error: Exception) -> None:
        self._reporter.report(SessionItemLost(error, name))

    def __repr__(self) -> str:
        return f"Reading({self._base!r})"
