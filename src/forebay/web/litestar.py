"""Litestar: a plugin that puts sessions into its requests, and dependencies over them. Its errors are answered as elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection, Request
from litestar.di import Provide
from litestar.exceptions import InternalServerException
from litestar.exceptions.responses import create_exception_response
from litestar.middleware.base import DefineMiddleware
from litestar.plugins import InitPlugin
from litestar.response import Response

from ..durations import Duration, to_seconds
from ..errors import AuthenticationRequired, Unavailable
from ..sessions.core import SessionsCore
from ..sessions.session import Session
from .asgi import AWAY, RETRY_AFTER, SessionMiddleware
from .cookie import Cookie
from .request_session import RequestSession, session_in

__all__ = ["SessionPlugin", "current_session", "require_fresh", "require_session", "session_of"]

_Connection = ASGIConnection[Any, Any, Any, Any]


class SessionPlugin(InitPlugin):
    """``Litestar(plugins=[SessionPlugin(bay.sessions())])``: the middleware, its answers to errors, and the dependency ``session``.

    Args:
        sessions, cookie, on_outage, prefetch: as for `forebay.web.asgi.SessionMiddleware`.
    """

    def __init__(
        self,
        sessions: SessionsCore,
        *,
        cookie: Cookie | None = None,
        on_outage: Literal["refuse", "anonymous"] = "refuse",
        prefetch: bool = True,
    ) -> None:
        middleware: Any = SessionMiddleware  # plain ASGI; Litestar's own types for it are narrower
        self._middleware = DefineMiddleware(middleware, sessions=sessions, cookie=cookie, on_outage=on_outage, prefetch=prefetch)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what this plugin is for; what the application has under the same names stays."""
        app_config.middleware.append(self._middleware)
        app_config.dependencies.setdefault("session", Provide(current_session))
        app_config.exception_handlers.setdefault(AuthenticationRequired, _refused)
        app_config.exception_handlers.setdefault(Unavailable, _away)
        return app_config


def session_of(request: _Connection) -> RequestSession:
    """Return the request's session, for `login` and `logout`.

    Raises:
        UsageError: there is no `SessionPlugin`.
    """
    return session_in(request.scope, "SessionPlugin")


async def current_session(request: Request[Any, Any, Any]) -> Session:
    """Return the session, a visitor's too: the dependency ``session``."""
    return await session_of(request).load()


async def require_session(request: Request[Any, Any, Any]) -> Session:
    """Return the session of a user who is logged in; anybody else is answered 401 ``{"error": "authentication required"}``."""
    return await session_of(request).required()


def require_fresh(within: Duration) -> Callable[[Request[Any, Any, Any]], Awaitable[Session]]:
    """Return a dependency for actions that need a login *within* so long."""
    seconds = to_seconds(within)

    async def fresh(request: Request[Any, Any, Any]) -> Session:
        return await session_of(request).required(seconds)

    return fresh


def _refused(_request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return Response({"error": str(error)}, status_code=401)


def _away(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    session = request.scope.get("session")
    if getattr(session, "away", None) is not error:  # somebody else's command
        return create_exception_response(request, InternalServerException())
    return Response({"error": AWAY}, status_code=503, headers={"Retry-After": RETRY_AFTER})
