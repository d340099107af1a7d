"""Sessions for any ASGI application: one middleware that reads the cookie, and stores what changed before the response begins.

A visitor for whom nothing is stored gets no cookie and costs no command. What depends on the session says ``Vary: Cookie``, and
what sets a cookie is not to be kept by caches.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ..errors import AuthenticationRequired, SessionGone, SettingsError, Unavailable, UsageError
from ..sessions.core import SessionsCore
from ..sessions.record import Device
from ..sessions.session import Session
from .cookie import Cookie
from .request_session import RequestSession

__all__ = ["AWAY", "RETRY_AFTER", "SessionMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

AWAY: Final = "the session store is away"
RETRY_AFTER: Final = "1"  # seconds
_SECURE: Final = ("https", "wss")
_BEGINNINGS: Final = ("http.response.start", "websocket.accept")


class SessionMiddleware:
    """Puts a `RequestSession` into ``scope["session"]`` of every HTTP request and WebSocket.

    Args:
        sessions: from `AsyncForebay.sessions`.
        cookie: how the cookie looks.
        on_outage: "refuse" answers 503 where a session is asked for and cannot be read, and leaves the cookie alone; "anonymous"
            goes on with an empty session, which is not stored.
        prefetch: asks for the session as soon as the cookie is seen. False asks when the application does.
    """

    def __init__(
        self,
        app: App,
        sessions: SessionsCore,
        *,
        cookie: Cookie | None = None,
        on_outage: Literal["refuse", "anonymous"] = "refuse",
        prefetch: bool = True,
    ) -> None:
        if on_outage not in ("refuse", "anonymous"):
            raise SettingsError(f"on_outage={on_outage!r} is unknown: use 'refuse' or 'anonymous'")
        self.app = app
        self._sessions = sessions
        self._cookie = cookie or Cookie()
        self._kind = _Anonymous if on_outage == "anonymous" else _Session
        self._prefetch = prefetch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self.app(scope, receive, send)
            return
        cookie = self._cookie
        https = scope.get("scheme") in _SECURE
        presented = cookie.read(scope["headers"], https=https)
        session = self._kind(self._sessions, presented, cookie, scope, send, https)
        scope["session"] = session
        if presented is not None and self._prefetch:
            session.prefetch()
        try:
            await self.app(scope, receive, session.respond)
        except AuthenticationRequired as error:
            if session.began or kind != "http":
                raise
            session.looked = True
            await _answer(session.respond, 401, str(error))
        except Exception as error:
            if session.began or kind != "http" or not _comes_from(error, session.away):
                raise
            await _answer(session.respond, 503, AWAY, [(b"retry-after", RETRY_AFTER.encode())])
        finally:
            session.abandon()
            session.let_go()
        session.warn()


class _Session(RequestSession):
    """A request's session, and what its response needs of it."""

    goes_on = False  # where the store is away
    began = False  #: whether the response did
    _commits = True

    def __init__(self, sessions: SessionsCore, presented: str | None, cookie: Cookie, scope: Scope, send: Send, https: bool) -> None:
        super().__init__(sessions, presented)
        self._cookie = cookie
        self._headers = scope["headers"]  # and not the scope, which holds this: each request would be left to the collector
        self._client = scope.get("client")
        self._send = send
        self._https = https
        self._sent = presented  # as it came: what cannot be an id is cleared too

    async def respond(self, message: Message) -> None:
        """Pass *message* on; what begins a response goes behind the commit."""
        if not self.began and message["type"] in _BEGINNINGS:
            if self.looked or self._session is not None:
                cookie = None
                session = self._session
                if session is not None and self._commits and self._has_work(session):
                    cookie = await self._commit(session)
                headers = [*message.get("headers", ())]
                _vary(headers)
                if cookie is not None:
                    headers = [(name, value) for name, value in headers if not _is_for_caches(name.lower())]
                    headers += [(b"cache-control", b"no-store"), (b"set-cookie", cookie)]
                message["headers"] = headers
            self.began = True
        await self._send(message)

    def _has_work(self, session: Session) -> bool:
        """Whether there is something to store, to prolong, or to tell the client: most requests only look."""
        changed = session.modified or not session.version or session.id != self.presented
        return changed or session.unseen_for >= self._sessions.lifetimes.touch_every

    async def _commit(self, session: Session) -> bytes | None:
        """Store what changed, and return the cookie to set."""
        is_known = session.version > 0
        try:
            if not await self._sessions.save(session) and is_known:
                await self._sessions.touch(session)
        except SessionGone as error:
            # Discarded. The cookie stays: by now the browser may hold that of a login which ended this session.
            self.discarded = error
            return None
        except Unavailable as error:
            self.away, self._commits = error, False
            if not self.goes_on:
                raise
            return None
        if session.version and session.id != self.presented:
            age = None
            if self._cookie.persistent or session.remembered:
                age = math.floor((session.ends_at - datetime.now(UTC)).total_seconds())
            return self._cookie.write(session.id, https=self._https, max_age=age)
        if not session.version and self.ended and self._sent is not None:
            return self._cookie.clear(https=self._https)
        return None

    def let_go(self) -> None:
        """Let go of the connection: what sends holds the scope, which holds this, and only the collector would find each request."""
        self._send = _nowhere

    def warn(self) -> None:
        """Say so if something was changed after the response had begun, and was not saved."""
        session = self._session
        if session is not None and self.began and self._commits and self.discarded is None and session.modified:
            warnings.warn(
                "a session was changed after the response had begun, and that is lost: change it before, or await request.session.save()",
                RuntimeWarning,
                stacklevel=2,
            )

    def _unread(self, error: Unavailable) -> Session:
        self._commits = False  # nothing of it is stored, and the cookie stays as it is
        if not self.goes_on:
            raise error
        return self._sessions.begin(device=self._device())

    def _device(self) -> Device:
        agent = next((value for name, value in self._headers if name == b"user-agent"), b"")
        return Device(agent.decode("latin-1"), "" if self._client is None else str(self._client[0]))


class _Anonymous(_Session):
    """One that goes on without what cannot be read; then nothing is stored, and the cookie stays as it is."""

    goes_on = True


async def _nowhere(_message: Message) -> None:
    raise UsageError("this request is over: nothing can be sent any more")


def _comes_from(error: BaseException | None, failure: Unavailable | None) -> bool:
    """Whether *error* is *failure*, or a framework's own that was raised because of it."""
    while error is not None and error is not failure:
        error = error.__cause__ or error.__context__
    return error is not None


def _vary(headers: list[tuple[bytes, bytes]]) -> None:
    for at, (name, value) in enumerate(headers):
        if name.lower() == b"vary":
            named = {each.strip().lower() for each in value.split(b",")}
            if not named & {b"cookie", b"*"}:
                headers[at] = (name, value + b", Cookie")
            return
    headers.append((b"vary", b"Cookie"))


def _is_for_caches(name: bytes) -> bool:
    """Whether a header says what caches may keep: also those for some caches alone, which go before the others (RFC 9213)."""
    return name in (b"cache-control", b"surrogate-control") or name.endswith(b"cdn-cache-control")


async def _answer(send: Send, status: int, error: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
