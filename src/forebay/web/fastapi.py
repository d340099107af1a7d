"""FastAPI and Starlette: dependencies and a decorator over the session that the middleware put into the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from starlette.requests import HTTPConnection

from ..durations import Duration, to_seconds
from ..errors import UsageError
from ..sessions.session import Session
from .request_session import RequestSession, session_in

__all__ = ["current_session", "require_fresh", "require_session", "session_of", "session_required"]

P = ParamSpec("P")
R = TypeVar("R")


def session_of(request: HTTPConnection) -> RequestSession:
    """Return the request's session, for `login` and `logout`.

    Raises:
        UsageError: there is no `SessionMiddleware`.
    """
    return session_in(request.scope, "SessionMiddleware")


async def current_session(request: HTTPConnection) -> Session:
    """Return the session, a visitor's too. ``session: Annotated[Session, Depends(current_session)]``."""
    return await session_of(request).load()


async def require_session(request: HTTPConnection) -> Session:
    """Return the session of a user who is logged in; anybody else is answered 401 ``{"error": "authentication required"}``."""
    return await session_of(request).required()


def require_fresh(within: Duration) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Return a dependency for actions that need a login *within* so long, such as a change of the address for mail."""
    seconds = to_seconds(within)

    async def fresh(request: HTTPConnection) -> Session:
        return await session_of(request).required(seconds)

    return fresh


def session_required(endpoint: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let *endpoint* be called for users who are logged in alone. It must take the request, by whatever name."""

    @wraps(endpoint)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        values: list[Any] = [*args, *kwargs.values()]
        request = next((value for value in values if isinstance(value, HTTPConnection)), None)
        if request is None:
            raise UsageError(f"{endpoint.__qualname__} takes no request, so nobody knows its session: give it a parameter request: Request")
        await require_session(request)
        return await endpoint(*args, **kwargs)

    return guarded
