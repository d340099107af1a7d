"""The same small application on different session libraries: ``python -m benchmarks.session_apps NAME PORT REDIS_URL``."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

USER = {"id": 42, "name": "Ada Lovelace", "email": "ada@example.org", "tags": ["a", "b", "c"]}
RATE = "1000000/day"  # nobody is refused
IN_SESSION = {"user_id": 42, "cart": ["apple", "pear"], "locale": "en"}

Endpoint = Callable[[Request], Awaitable[PlainTextResponse]]


def bare(_url: str) -> Starlette:
    """No sessions at all: what the server and the framework cost by themselves."""

    async def read(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return _routes(read, read, read)


def wire(url: str) -> Starlette:
    """No sessions, and the two commands that reading one takes, on names where nothing is: what the way to Redis costs by itself."""
    from forebay import AsyncForebay
    from forebay.wire.resp import pack

    bay = AsyncForebay(url)
    first, second = pack(("HGETALL", "bench:{none}:a")), pack(("GET", "bench:{none}:b"))

    async def read(_request: Request) -> PlainTextResponse:
        pair = bay.port.pair(b"{none}", first, second)  # as sessions send them; None before there is a connection
        if pair is None:
            await bay.ping()
        else:
            await pair[0]
            await pair[1]
        return PlainTextResponse("ok")

    return _routes(read, read, read)


def forebay(url: str, *, limited: bool = False) -> Starlette:
    """Forebay's middleware, and a cached value beside it; or a limit as well."""
    from forebay import AsyncForebay
    from forebay.web.asgi import SessionMiddleware
    from forebay.web.limits import LimitMiddleware

    bay = AsyncForebay(url, prefix="bench:")
    cache = bay.cache("user", ttl="1h")

    async def load() -> dict[str, Any]:
        return USER

    async def login(request: Request) -> PlainTextResponse:
        session = await request.session.load()
        session.update(IN_SESSION)
        return PlainTextResponse("ok")

    async def read(request: Request) -> PlainTextResponse:
        session = await request.session.load()
        return PlainTextResponse(session["locale"])

    async def both(request: Request) -> PlainTextResponse:
        session = await request.session.load()
        user = await cache.get_or_set(session["user_id"], load)
        return PlainTextResponse(user["name"])

    app = _routes(login, read, both)
    if limited:
        app.add_middleware(LimitMiddleware, limits=[bay.limiter("api", RATE)])
    app.add_middleware(SessionMiddleware, sessions=bay.sessions())
    return app


def starsessions(url: str, *, limited: bool = False) -> Starlette:
    """starsessions with its Redis store and rolling sessions, and redis-py for the cached value; or slowapi as well."""
    from redis.asyncio import Redis
    from slowapi import Limiter
    from slowapi.util import get_remote_address
    from starsessions import SessionMiddleware, load_session
    from starsessions.stores.redis import RedisStore

    redis = Redis.from_url(url)

    async def login(request: Request) -> PlainTextResponse:
        await load_session(request)
        request.session.update(IN_SESSION)
        return PlainTextResponse("ok")

    async def read(request: Request) -> PlainTextResponse:
        await load_session(request)
        return PlainTextResponse(request.session["locale"])

    async def both(request: Request) -> PlainTextResponse:  # slowapi wants the name
        await load_session(request)
        key = f"bench:user:{request.session['user_id']}"
        data = await redis.get(key)
        if data is None:
            data = json.dumps(USER)
            await redis.set(key, data, ex=3600)
        return PlainTextResponse(json.loads(data)["name"])

    limiter = Limiter(key_func=get_remote_address, storage_uri=url, headers_enabled=True)
    app = _routes(login, read, limiter.limit(RATE)(both) if limited else both)
    app.state.limiter = limiter
    app.add_middleware(SessionMiddleware, store=RedisStore(url), lifetime=3600, rolling=True, cookie_https_only=False)
    return app


def _routes(login: Endpoint, read: Endpoint, both: Endpoint) -> Starlette:
    return Starlette(routes=[Route("/login", login), Route("/read", read), Route("/both", both)])


APPS = {"bare": bare, "wire": wire, "forebay": forebay, "starsessions": starsessions}
LIMITED = {"forebay, limited": partial(forebay, limited=True), "starsessions, slowapi": partial(starsessions, limited=True)}


if __name__ == "__main__":
    name, port, url = sys.argv[1:]
    uvicorn.run((APPS | LIMITED)[name](url), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
