"""The session of one request, in ``scope["session"]``: loaded when it is asked for, stored before the response begins.

Until `load` was awaited it refuses to be looked at: a mapping that is empty because nobody has fetched it would log users out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeVar

from ..errors import AuthenticationRequired, SessionGone, SessionNotFound, Unavailable, UsageError
from ..sessions.core import SessionsCore
from ..sessions.reading import Question
from ..sessions.record import Device
from ..sessions.session import Session

__all__ = ["RequestSession", "session_in"]

T = TypeVar("T")

_NOT_LOADED: Final = "the session of this request has not been loaded: await request.session.load() first, or depend on current_session"


class RequestSession(MutableMapping[str, Any]):
    """A mapping, once loaded; `login`, `logout` and `save` for those who need them."""

    ended = False  #: whether this request ended the session
    looked = False  #: whether the answer depends on the session
    discarded: Exception | None = None  #: why changes were not stored
    away: Unavailable | None = None  #: what was raised because the store could not be asked
    _question: Question | None = None
    _session: Session | None = None

    def __init__(self, sessions: SessionsCore, presented: str | None) -> None:
        self._sessions = sessions
        self.presented = presented  #: what the client sent as its id, untrusted

    def prefetch(self) -> None:
        """Ask for the session now, so that the question leaves together with whatever else this tick asks."""
        try:
            self._question = self._sessions.reading.ask(self.presented)
        except SessionNotFound:  # it cannot be an id
            self.presented = None

    async def load(self) -> Session:
        """Return the session: the client's, or an empty one that is stored as soon as something is put into it.

        Raises:
            Unavailable: it is not known whether there is one.
        """
        self.looked = True
        if self._session is not None:
            return self._session
        if self._question is None and self.presented is not None:
            self.prefetch()
        try:
            if self._question is None:
                raise SessionNotFound
            found = await self._sessions.reading.answer(self._question)  # who cancels this request cancels its question
        except SessionNotFound:
            found = self._sessions.begin(device=self._device())
        except Unavailable as error:
            self.away = error
            found = self._unread(error)
        if self._session is None:  # else another task of this request was quicker
            self._session = found
        return self._session

    def _unread(self, error: Unavailable) -> Session:
        """Return what stands in for a session that cannot be read."""
        raise error

    def _device(self) -> Device:
        """From where the request comes."""
        return Device()

    @property
    def loaded(self) -> Session | None:
        """The session, if it was asked for."""
        return self._session

    @property
    def current(self) -> Session:
        """The session.

        Raises:
            UsageError: it was not loaded.
        """
        if self._session is None:
            raise UsageError(_NOT_LOADED)
        return self._session

    async def login(self, user_id: str | int, *, remember_me: bool = False) -> Session:
        """Make this the session of *user_id*, under another id; the old id ends. What was in it stays.

        Raises:
            TooManySessions, Unavailable: nobody is logged in.
        """
        new = await self._asked(self._logged_in(user_id, remember_me=remember_me))
        self._session, self.ended = new, False
        return new

    async def _logged_in(self, user_id: str | int, *, remember_me: bool) -> Session:
        session = await self.load()
        if session.version:
            try:
                device = self._device()
                return await self._sessions.regenerate(session, user_id=user_id, device=device, remember_me=remember_me, authenticated=True)
            except SessionGone:  # it ended while the user typed: what was in it is gone, and the user is who they are
                session = self._sessions.begin()
        new = self._sessions.begin(user_id, self._device(), remember_me=remember_me)
        new.update(session)
        for category, message in session.flashes():
            new.flash(message, category)
        new.authenticated()
        await self._sessions.save(new)
        return new

    async def logout(self) -> None:
        """End the session; the client's cookie is removed.

        Raises:
            Unavailable: it may go on.
        """
        session = await self.load()
        if session.version:
            await self._asked(self._sessions.destroy(session.id))
        self._session = self._sessions.begin(device=self._device())
        self.ended = True

    async def rotate(self) -> Session:
        """Give the session another id, as after a change of rights; return it, or an empty one if it has ended."""
        session = await self.load()
        if session.version:
            try:
                self._session = await self._asked(self._sessions.regenerate(session))
            except SessionGone as error:  # it ended, or another request gave it another id
                self._session, self.discarded = self._sessions.begin(device=self._device()), error
        return self.current

    async def save(self) -> bool:
        """Store changes now: for WebSockets, for what streams, and for background tasks, which come after the response began.

        Raises:
            SessionGone: it ended meanwhile; nothing was stored.
            UsageError: the response has begun, and the client cannot be given the id of a session that begins now.
            Unavailable: it may or may not have been stored.
        """
        return await self._asked(self._sessions.save(self.current))

    async def required(self, fresh_for: float | None = None) -> Session:
        """Return the session of a user who is logged in, and was asked for proof within *fresh_for* seconds.

        Raises:
            AuthenticationRequired: nobody is, or not lately.
        """
        session = await self.load()
        if session.user_id is None:
            raise AuthenticationRequired("authentication required")
        if fresh_for is not None and not session.is_fresh(fresh_for):
            raise AuthenticationRequired("fresh authentication required")
        return session

    async def _asked(self, work: Awaitable[T]) -> T:
        """Await *work*, and take note if the store is away."""
        try:
            return await work
        except Unavailable as error:
            self.away = error
            raise

    def abandon(self) -> None:
        """Ask for nothing more: the request is over."""
        if self._question is not None and self._session is None:
            self._question.abandon()

    def __getitem__(self, name: str) -> Any:
        return self.current[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.current[name] = value

    def __delitem__(self, name: str) -> None:
        del self.current[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)

    def __repr__(self) -> str:
        return f"<RequestSession {'not loaded' if self._session is None else self._session!r}>"


def session_in(scope: Mapping[str, Any], giver: str) -> RequestSession:
    """Return the session of a request, which *giver* puts into its *scope*.

    Raises:
        UsageError: there is none.
    """
    session = scope.get("session")
    if not isinstance(session, RequestSession):
        raise UsageError(f"this request has no session: add {giver} to the application")
    return session
