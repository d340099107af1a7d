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
from functools import partial
from typing import Any, Final, Literal

from ..errors import AuthenticationRequired, SessionGone, SettingsError, Unavailable
from ..sessions.core import SessionsCore
from ..sessions.record import Device
from .cookie import Cookie
from .request_session import RequestSession

__all__ = ["SessionMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_RETRY_AFTER: Final = 1  # seconds


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
        self._anonymous = on_outage == "anonymous"
        self._prefetch = prefetch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        https = scope.get("scheme") in ("https", "wss")
        presented = self._cookie.read(headers, https=https)
        session = _Anonymous(self._sessions, presented, scope) if self._anonymous else _Session(self._sessions, presented, scope)
        scope["session"] = session
        if presented is not None and self._prefetch:
            session.prefetch()
        exchange = _Exchange(self._sessions, self._cookie, session, send, https=https)
        try:
            await self.app(scope, receive, exchange.send)
        except AuthenticationRequired as error:
            if exchange.began or kind != "http":
                raise
            session.looked = True
            await _answer(exchange.send, 401, str(error))
        except Exception as error:
            if exchange.began or kind != "http" or not _comes_from(error, session.away):
                raise
            await _answer(exchange.send, 503, "the session store is away", [(b"retry-after", b"%d" % _RETRY_AFTER)])
        finally:
            session.abandon()
        exchange.warn()


class _Session(RequestSession):
    """A request's session, whose device is read from the request when it is needed."""

    goes_on = False  # where the store is away

    def __init__(self, sessions: SessionsCore, presented: str | None, scope: Scope) -> None:
        super().__init__(sessions, presented, partial(_device_of, scope))
        self.failure: Unavailable | None = None  #: it could not be read, so nothing of it is stored

    async def load(self) -> Any:
        """See `RequestSession.load`."""
        try:
            return await super().load()
        except Unavailable as error:
            self.failure = error
            raise


class _Anonymous(_Session):
    """One that goes on without what cannot be read; then nothing is stored, and the cookie stays as it is."""

    goes_on = True

    async def load(self) -> Any:
        """See `RequestSession.load`."""
        try:
            return await super().load()
        except Unavailable:
            if self.loaded is None:
                self._session = self._sessions.begin(device=self._device())
            return self._session


class _Exchange:
    """What one response needs of the session."""

    def __init__(self, sessions: SessionsCore, cookie: Cookie, session: _Session, send: Send, *, https: bool) -> None:
        self._sessions = sessions
        self._cookie = cookie
        self._session = session
        self._send = send
        self._https = https
        self.began = False

    async def send(self, message: Message) -> None:
        """Pass *message* on; what begins a response goes behind the commit."""
        if message["type"] in ("http.response.start", "websocket.accept"):
            session = self._session
            if session.looked or session.loaded is not None:
                try:
                    cookie = await self._commit()
                except Unavailable as error:
                    session.failure = session.away = error
                    if not session.goes_on:
                        raise
                    cookie = None
                headers = list(message.get("headers", ()))
                _vary(headers)
                if cookie is not None:
                    headers = [(name, value) for name, value in headers if name.lower() != b"cache-control"]
                    headers += [(b"cache-control", b"no-store"), (b"set-cookie", cookie)]
                message["headers"] = headers
            self.began = True
        await self._send(message)

    async def _commit(self) -> bytes | None:
        """Store what changed, and return the cookie to set."""
        handle, session = self._session, self._session.loaded
        if session is None or handle.failure is not None:
            return None
        is_known = session.version > 0
        try:
            if not await self._sessions.save(session) and is_known:
                await self._sessions.touch(session)
        except SessionGone as error:
            # Discarded. The cookie stays: by now the browser may hold that of a login which ended this session.
            handle.discarded = error
            return None
        if session.version and session.id != handle.presented:
            age = None
            if self._cookie.persistent or session.remembered:
                age = math.floor((session.expires_at - datetime.now(UTC)).total_seconds())
            return self._cookie.write(session.id, https=self._https, max_age=age)
        if not session.version and handle.ended and handle.presented is not None:
            return self._cookie.clear(https=self._https)
        return None

    def warn(self) -> None:
        """Say so if something was changed after the response had begun, and was not saved."""
        session = self._session.loaded
        if session is not None and self.began and self._session.failure is None and self._session.discarded is None and session.modified:
            warnings.warn(
                "a session was changed after the response had begun, and that is lost: change it before, or await request.session.save()",
                RuntimeWarning,
                stacklevel=2,
            )


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


def _device_of(scope: Scope) -> Device:
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    client = scope.get("client")
    return Device(agent.decode("latin-1"), "" if client is None else str(client[0]))


async def _answer(send: Send, status: int, error: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
