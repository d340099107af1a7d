"""Reads of sessions: one round trip each, and what cannot be read, was revoked or has lost its epoch counts as none."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from ..codecs.coding import Coding
from ..errors import DecodeError, ServerError, SessionNotFound, Unavailable
from ..events import Reporter, SessionItemLost, SessionUnreadable
from ..port.clock import ServerClock
from ..port.port import Port, Reply, raise_refusal
from ..wire.node import Asked
from ..wire.resp import Arg
from .record import Record, read_record
from .session import Session
from .token import Keys, Token, Tokens, base_of

__all__ = ["Question", "Reading"]

_TOGETHER: Final = 500  # sessions read in one write
_TOLERANCE: Final = 1000.0  # milliseconds by which the estimate of the server's clock may be wrong


class Question:
    """A session that is asked for. Where the port can, its commands are on their way already: as a *pair*, or *whole*."""

    __slots__ = ("began", "pair", "token", "whole")

    def __init__(self, token: Token, pair: tuple[Asked, Asked] | None, whole: Asked | None) -> None:
        self.token = token
        self.pair = pair
        self.whole = whole
        self.began = 0.0 if pair is not None else monotonic()

    def abandon(self) -> None:
        """Wait for it no more."""
        for each in self.pair or (self.whole,):
            if each is not None and not each.cancel() and not each.cancelled():
                each.exception()  # it has been heard


class Reading:
    """Reads the sessions under *base*, ``<prefix>session:``."""

    def __init__(self, port: Port, base: str, reporter: Reporter, clock: ServerClock, tokens: Tokens, coding: Coding[Any]) -> None:
        self._port = port
        self._base = base
        self._reporter = reporter
        self._clock = clock
        self._tokens = tokens
        self._coding = coding
        every = base_of(base, "0" * 32).encode()  # a tag has 32 characters, a digest 64
        form = base_of(base.replace("%", "%%"), "%b").encode()
        self._hash = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n" % (len(every) + 64) + form + b"%b\r\n"
        self._epoch = b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (len(every) + len("epoch")) + form + b"epoch\r\n"

    def ask(self, id: object) -> Question:  # noqa: A002 - the word for it
        """Ask for the session of *id*, as a client presents it, ahead of `answer` where the port can.

        Raises:
            SessionNotFound: it cannot be an id. Nothing is asked.
        """
        token = self._tokens.read(id)
        if not self._clock.due:
            tag = token.tag.encode()
            pair = self._port.pair(b"{%b}" % tag, self._hash % (tag, token.digest.encode()), self._epoch % tag)
            if pair is not None:
                return Question(token, pair, None)
        return Question(token, None, self._port.ahead(self._commands(token)))

    async def answer(self, question: Question) -> Session:
        """Return the session that was asked for.

        Raises:
            SessionNotFound: there is none.
            Unavailable: it is not known whether there is one.
        """
        token, pair = question.token, question.pair
        try:
            fields, epoch = await self._whole(question) if pair is None else (await pair[0], await pair[1])
        except Unavailable as error:
            question.abandon()
            if pair is None:  # that was repeated as often as may be
                raise
            fields, epoch = await self._again(error, token)
        except ServerError as error:
            question.abandon()
            if error.code != "WRONGTYPE":
                raise
            self._reporter.report(SessionUnreadable(error))  # somebody put something else there
            raise SessionNotFound from error
        except BaseException:  # also a cancellation
            question.abandon()
            raise
        now = self._clock.now()
        record = self._judged(token.digest, fields, epoch)
        if record is None or record.expires <= now - _TOLERANCE:  # somebody took its lifetime away
            raise SessionNotFound
        return self.session(token, record, now)

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
            raise_refusal([reply for reply in hashes if not _is_another_kind(reply)])
            for digest, fields in zip(some, hashes, strict=True):
                record = self._judged(digest, fields, epoch)
                if record is None:
                    gone.append(digest)
                elif not record.leaving:
                    found.append((digest, record))
        if gone:
            await self._port.execute("ZREM", keys.index, *gone, idempotent=True)
        return found

    def _commands(self, token: Token) -> Sequence[tuple[Arg, ...]]:
        names = Keys(self._base, token.tag)
        commands: tuple[tuple[Arg, ...], ...] = (("HGETALL", names.base + token.digest), ("GET", names.epoch))
        return (*commands, ("TIME",)) if self._clock.due else commands

    async def _whole(self, question: Question) -> tuple[Reply, Reply]:
        replies = await (self._port.execute_many(self._commands(question.token)) if question.whole is None else question.whole)
        return self._settled(replies, question.began)

    async def _again(self, error: Unavailable, token: Token) -> tuple[Reply, Reply]:
        began = monotonic()
        return self._settled(await self._port.read_again(error, self._commands(token)), began)

    def _settled(self, replies: list[Reply], began: float) -> tuple[Reply, Reply]:
        raise_refusal(replies)
        if len(replies) == 3:
            self._clock.take(replies[2], began)
        return replies[0], replies[1]

    def _judged(self, digest: str, fields: Reply, epoch: Reply) -> Record | None:
        if not fields:
            return None
        if isinstance(fields, ServerError):
            self._reporter.report(SessionUnreadable(fields))
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


def _is_another_kind(reply: Reply) -> bool:
    return isinstance(reply, ServerError) and reply.code == "WRONGTYPE"
