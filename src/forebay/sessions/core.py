"""Every operation on sessions, once for both colours. Each is one round trip, and what ended is never written again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from secrets import token_hex
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from ..codecs.coding import Coding
from ..durations import Duration, to_ms
from ..errors import SessionConflict, SessionGone, SessionNotFound, TooManySessions
from ..events import Reporter
from ..port.clock import ServerClock
from ..port.port import Port
from ..wire.resp import Arg
from .eviction import EvictionWatch
from .items import Changes
from .options import Lifetimes
from .reading import Reading
from .record import Device, Record, pack_device, unpack_device
from .scripts import COMMIT, CREATE, LEAVE, REVOKE, TOUCH
from .session import CSRF, PROVED, Session, moment
from .token import Keys, Token, Tokens, handle_of, user_text

__all__ = ["SessionInfo", "SessionsCore"]

_NO_OTHER_ID: Final = "the session ended, was destroyed or got another id while its id was changed"


class SessionInfo(Struct, frozen=True):
    """One session of a user, for a page of devices. ``handle`` names it, and is of no use as an id."""

    handle: str
    device: Device
    created_at: datetime
    last_seen: datetime
    expires_at: datetime


class SessionsCore:
    """The sessions of one bay. Get them from `AsyncForebay.sessions` or `Forebay.sessions`."""

    _room = "session"

    def __init__(
        self,
        port: Port,
        prefix: str,
        reporter: Reporter,
        clock: ServerClock,
        lifetimes: Lifetimes,
        tokens: Tokens,
        coding: Coding[Any],
        eviction: EvictionWatch,
    ) -> None:
        self._port = port
        self._base = f"{prefix}{self._room}:"
        self._reporter = reporter
        self.lifetimes = lifetimes
        self._tokens = tokens
        self.reading = Reading(port, self._base, reporter, clock, tokens, coding)
        self._eviction = eviction

    async def create(
        self,
        user_id: str | int | None = None,
        data: Mapping[str, Any] | None = None,
        device: Device | str | None = None,
        *,
        remember_me: bool = False,
    ) -> Session:
        """Begin a session, for a user or for a visitor, and store it with *data*.

        Args:
            device: what the client says of itself (text), or a `Device` with its address too; shown by `list_for`.
            remember_me: it lives for ``remember_for``, used or not.

        Raises:
            InvalidKey, EncodeError: the user id, a name or a value cannot be stored.
            TooManySessions: with ``when_full="refuse"``.
            Unavailable: it may or may not have been stored; nobody has its id.
        """
        session = self.begin(user_id, device, remember_me=remember_me)
        session.update(data or {})
        await self._begun(session, session.changes())
        return session

    def begin(self, user_id: str | int | None = None, device: Device | str | None = None, *, remember_me: bool = False) -> Session:
        """Return a session that is not stored yet, and of which nobody knows: `save` stores it once something was put into it.

        Raises:
            InvalidKey: the user id cannot be kept.
        """
        user = None if user_id is None else user_text(user_id)
        idle = self.lifetimes.remembered if remember_me else self.lifetimes.idle
        record = Record(0, user, 0, 0, 0, idle, b"", unpack_device(pack_device(device)), False, {}, {})  # noqa: FBT003
        return self.reading.session(self._tokens.new(user), record, 0.0)

    async def load(self, id: str) -> Session:  # noqa: A002 - the word for it
        """Return the session of *id*, as a client presents it.

        Raises:
            SessionNotFound: there is none. What could never be an id is refused without asking the server.
            Unavailable: it is not known whether there is one. Keep the client's cookie, and answer 503.
        """
        return await self.reading.answer(self.reading.ask(id))

    async def save(self, session: Session, *, check: Literal["version"] | None = None) -> bool:
        """Store what was changed, and only that: two requests that change different items both win. Return whether anything was.

        A session in use is also prolonged, here if something changed, else by `touch`.

        Args:
            check: "version" refuses if anybody saved the session since it was loaded.

        Raises:
            SessionGone: it ended or was destroyed. Nothing was stored, and it does not come back.
            SessionConflict: with ``check="version"``.
            EncodeError: an item cannot be stored; nothing was.
            Unavailable: it may or may not have been stored. It may be saved again: the same values are set.
        """
        if check not in (None, "version"):
            raise ValueError(f"check={check!r} is unknown: use 'version', or None")
        if not session.modified:
            return False
        changes = session.changes()
        if not session.version:
            await self._begun(session, changes)
            return True
        token = session.token
        args: list[Arg] = [token.digest, "" if check is None else session.version, len(changes.put)]
        args += [word for pair in changes.put.items() for word in pair]
        args += [len(changes.removed), *changes.removed]
        args += [word for pair in changes.ends.items() for word in pair]
        status, *rest = await COMMIT.run(self._port, self._keys(token), args, idempotent=check is None)
        if status == 0:
            raise SessionGone("the session ended or was destroyed while it was in use: nothing was stored")
        if status < 0:
            raise SessionConflict(f"the session was saved by somebody else: it has version {rest[0]}, and {session.version} was read")
        session.saved(changes, rest[0], rest[1])
        return True

    async def touch(self, session: Session) -> bool:
        """Prolong a session that is in use, at most once in ``touch_every``; return whether it was. It is never created by that.

        Raises:
            SessionGone: it ended or was destroyed.
            Unavailable: it may or may not have been prolonged.
        """
        if session.unseen_for < self.lifetimes.touch_every:
            return False
        status, *rest = await TOUCH.run(self._port, self._keys(session.token), [session.token.digest], idempotent=True)
        if status == 0:
            raise SessionGone("the session ended or was destroyed while it was in use")
        session.touched(rest[1])
        return True

    async def regenerate(
        self,
        session: Session,
        *,
        user_id: str | int | UnsetType | None = UNSET,
        device: Device | str | None = None,
        remember_me: bool | None = None,
        grace: Duration | None = None,
        authenticated: bool = False,
    ) -> Session:
        """Give *session* another id, and return it so: what a login, a logout and every change of rights must do.

        The new one has all items as they are in *session*. For the same user it takes the old one's place in one step, and ends
        when that would have ended; for another its time begins anew, and it exists before the old one goes.

        Args:
            user_id: whose it is from now on (None: a visitor's). By default it stays whose it is.
            remember_me: True or False begins its time anew, as for `create`. By default it has the time that is left.
            grace: the old id can still be read for so long, by requests that are under way. By default it is gone at once.
            authenticated: note that the user proved now who they are, as `Session.authenticated` does.

        Raises:
            SessionGone: it had ended or was destroyed, or has another id already, and there is no new one.
            TooManySessions, EncodeError: as for `create`; the old one is as it was.
            Unavailable: as for `create`; the old one may have ended.
        """
        user = session.user_id if isinstance(user_id, UnsetType) else None if user_id is None else user_text(user_id)
        token = self._tokens.new(user)
        old, times = session.record, self.lifetimes
        same = user == old.user and remember_me is None
        idle, absolute = (times.remembered, times.remembered) if remember_me else (times.idle, times.absolute)
        changes = session.everything(token)
        if user != old.user:
            changes.put.pop(CSRF, None)  # whoever planted the old id may know its forms' secret too
        if not same:
            changes.put.pop(PROVED, None)
        left_idle = old.idle if same else idle
        record = Record(0, user, 0, 0, 0, left_idle, b"", old.device, False, dict(changes.put), {})  # noqa: FBT003
        new = self.reading.session(token, record, 0.0)
        if authenticated:
            new.authenticated()
            proof = new.changes()
            changes.put.update(proof.put)
            changes.sent.update(proof.sent)
        ends = str(old.ends) if same else f"+{absolute}"
        left = 0 if grace is None else to_ms(grace)
        leaving = (session.token, left) if user is not None and user == old.user else None  # all in one slot
        device = old.device if device is None else device
        await self._create(new, changes, device, ends, old.created if same else None, leaving)
        if leaving is None:
            was_there = await LEAVE.run(self._port, self._keys(session.token), [session.token.digest, left, "1"], idempotent=False)
            if not was_there:  # destroyed between then and now: this must not bring it back
                await self.destroy(new.id)
                raise SessionGone(_NO_OTHER_ID)
        return new

    async def destroy(self, id: str) -> bool:  # noqa: A002
        """End the session of *id* for good; return whether there was one.

        Raises:
            Unavailable: it may still be there. It is safe to repeat.
        """
        try:
            token = self._tokens.read(id)
        except SessionNotFound:
            return False
        return bool(await LEAVE.run(self._port, self._keys(token), [token.digest, 0], idempotent=True))

    async def list_for(self, user_id: str | int) -> list[SessionInfo]:
        """Return the sessions of a user, the last used first. What ended without a trace is removed from the index.

        Raises:
            Unavailable: they could not be read.
        """
        keys = Keys(self._base, self._tokens.tag(user_text(user_id)))
        found = await self.reading.all_of(keys)
        found.sort(key=lambda pair: pair[1].seen, reverse=True)
        return [
            SessionInfo(handle_of(digest), record.device, moment(record.created), moment(record.seen), moment(record.expires))
            for digest, record in found
        ]

    async def destroy_handle(self, user_id: str | int, handle: str) -> bool:
        """End the session that `list_for` names *handle*; return whether there was one.

        Raises:
            Unavailable: it may still be there.
        """
        keys = Keys(self._base, self._tokens.tag(user_text(user_id)))
        for digest in await self._port.execute("ZRANGE", keys.index, 0, -1):
            if handle_of(digest.decode()) == handle:
                return bool(await LEAVE.run(self._port, keys.of(digest.decode()), [digest, 0, "1"], idempotent=True))
        return False

    async def destroy_for(self, user_id: str | int, *, except_: str | None = None) -> bool:
        """End all sessions of a user at once, however many there are; return whether *except_* was spared.

        Args:
            except_: the id of the session that goes on, if it is one of the user's that had not ended.

        Raises:
            Unavailable: they may go on. It is safe to repeat.
        """
        spared, _ = await self._revoke(user_id, except_, listed=False)
        return spared

    # parts

    async def _revoke(self, user_id: str | int, except_: str | None, *, listed: bool) -> tuple[bool, list[str]]:
        """Begin another epoch; return whether *except_* was spared and, if they are to be *listed*, the digests of who was there."""
        keys = Keys(self._base, self._tokens.tag(user_text(user_id)))
        digest = ""
        if except_ is not None:
            try:
                token = self._tokens.read(except_)
            except SessionNotFound:
                token = None
            if token is not None and keys.base == Keys(self._base, token.tag).base:
                digest = token.digest
        kept = self.lifetimes.longest + 60_000
        args: list[Arg] = [digest, token_hex(8), kept, "1" if listed else "0"]
        spared, there = await REVOKE.run(self._port, keys.of(digest or "index"), args, idempotent=not (digest or listed))
        return bool(spared), [each.decode() for each in there if each.decode() != digest or not spared]

    async def _begun(self, session: Session, changes: Changes) -> None:
        """Store a session that nobody knows of yet."""
        remembered = session.record.idle == self.lifetimes.remembered
        absolute = self.lifetimes.remembered if remembered else self.lifetimes.absolute
        await self._create(session, changes, session.device, f"+{absolute}", None)

    async def _create(
        self,
        session: Session,
        changes: Changes,
        device: Device | str | None,
        ends: str,
        created: int | None,
        leaving: tuple[Token, int] | None = None,
    ) -> None:
        """Store *session*; in the place of *leaving*, which may be read for so many milliseconds more."""
        self._eviction.look()
        token, record = session.token, session.record
        packed = pack_device(device)
        pairs: list[Arg] = ["#u", "" if record.user is None else f"u{record.user}", "#d", packed]
        if created is not None:
            pairs += ["#c", created]
        pairs += [word for pair in changes.put.items() for word in pair]
        args: list[Arg] = [token.digest, "0" if record.user is None else "1", Keys(self._base, token.tag).base, record.idle, ends]
        keys, digest, left = self._keys(token), "", 0
        if leaving is not None:
            digest, left = leaving[0].digest, leaving[1]
            keys.append(self._keys(leaving[0])[0])
        args += [self.lifetimes.most, self.lifetimes.when_full, token_hex(8), digest, left, len(pairs) // 2, *pairs]
        args += [word for pair in changes.ends.items() for word in pair]
        status, *rest = await CREATE.run(self._port, keys, args)
        if status == -2:
            raise SessionGone(_NO_OTHER_ID)
        if status < 0:
            raise TooManySessions(f"user {record.user!r} has {self.lifetimes.most} sessions, as many as may be (max_per_user)")
        if status == 0:
            raise SessionGone("the session had reached its absolute end")
        now, record.ends = rest
        record.created, record.device = now if created is None else created, unpack_device(packed)
        session.saved(changes, 1, now)

    def _keys(self, token: Token) -> list[str]:
        return Keys(self._base, token.tag).of(token.digest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"
