"""The application: routes around one bay and one engine. It opens neither; its lifespan makes both ready and closes both."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from ..bay import AsyncForebay
from ..errors import ForebayError, Unavailable
from ..web.asgi import SessionMiddleware
from ..web.limits import LimitMiddleware
from .accounts import SESSIONS, Accounts, accounts_router
from .database import AWAY, EXAMPLE_PASSWORD, EXAMPLES, cause_of, prepare
from .limits import Limits
from .operations import operations_router
from .pages import pages_router
from .passwords import Passwords
from .posts import Posts, posts_router
from .users import Users, users_router

__all__ = ["create_app"]

logger: Final = logging.getLogger("forebay.demo")

_DESCRIPTION: Final = (
    "Users and posts in a database, with Forebay in front of it. The header `X-Cache` says what the cache did: "
    "`NEAR` (this process held it), `HIT`, `STALE` or `MISS`; `INVALIDATED` or `INVALIDATION-FAILED`. The headers `RateLimit` and "
    "`RateLimit-Policy` say how often this address may ask for this route; who asks more often is answered 429."
)


def create_app(bay: AsyncForebay, engine: AsyncEngine) -> FastAPI:
    """Return the users API on *bay*, made with ``on_operation=note``, and *engine*. Entering its lifespan makes both ready."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            opened.push_async_callback(engine.dispose)
            opened.push_async_callback(bay.close)
            created = await prepare(engine, await passwords.start(EXAMPLE_PASSWORD))
            await bay.connect()
            if created:
                await _forget_examples(bay)
            yield

    sessions = async_sessionmaker(engine, expire_on_commit=False)
    passwords = Passwords()
    logins = bay.sessions(**SESSIONS)
    users = Users(sessions, bay, logins, passwords)
    accounts = Accounts(sessions, logins, users, passwords)
    limits = Limits(bay)
    app = FastAPI(title="Forebay's users API", description=_DESCRIPTION, lifespan=lifespan)
    app.include_router(users_router(users))
    app.include_router(posts_router(Posts(sessions, bay, users)))
    app.include_router(operations_router(bay, engine, users))
    app.include_router(accounts_router(accounts, limits))
    app.include_router(pages_router(accounts, limits))
    app.add_middleware(LimitMiddleware, limits=limits.policies)
    app.add_middleware(SessionMiddleware, sessions=logins)  # around it, so that both ask in one write
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(Unavailable, _cache_away)
    for away in AWAY:
        app.add_exception_handler(away, _database_away)

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


async def _forget_examples(bay: AsyncForebay) -> None:
    """The example rows are new, so what a server that outlived an earlier database knows about their ids is wrong."""
    cache = bay.cache("user")
    try:
        await cache.delete(*(key for number in EXAMPLES for key in (number, f"{number}:posts")))
    except ForebayError as error:
        logger.warning("the cache could not be asked to forget the users of an earlier database: %s", error)


async def _refused(_request: Request, error: Exception) -> Response:
    """Say what was wrong without repeating it: FastAPI's own answer fails on input that JSON can carry and UTF-8 cannot."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [{part: problem[part] for part in ("type", "loc", "msg")} for problem in problems]
    return Response(json.dumps({"detail": detail}), status_code=422, media_type="application/json")


async def _cache_away(request: Request, error: Exception) -> JSONResponse:
    if getattr(request.scope.get("session"), "away", None) is error:
        raise error  # the middleware answers for the session store
    return JSONResponse({"detail": "the cache is away"}, status_code=503)


async def _database_away(_request: Request, error: Exception) -> JSONResponse:
    logger.warning("the database is away: %s", cause_of(error))
    return JSONResponse({"detail": "the database is away"}, status_code=503)
