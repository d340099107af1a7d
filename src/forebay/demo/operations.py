"""What an operator asks: is it well, how well does the cache work, warm it up. Only an absent database makes the API unwell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Body, Response, status
from msgspec import to_builtins
from msgspec.structs import asdict
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ..bay import AsyncForebay
from ..errors import ForebayError
from .database import AWAY
from .users import Users

__all__ = ["operations_router"]

_PATIENCE: Final = 2.0  # seconds; whoever asks for health has a deadline too


class Latency(BaseModel):
    """How long each server took to answer, in milliseconds; null if it did not."""

    database: float | None
    cache: float | None


class Health(BaseModel):
    """The state of the API and of what stands behind it."""

    status: Literal["ok", "unavailable"]
    database: Literal["up", "down"]
    cache: Literal["up", "down"]
    latency_ms: Latency


class CacheNumbers(BaseModel):
    """What one namespace counted since the start."""

    hits: int
    near_hits: int
    stale: int
    misses: int
    loads: int
    load_errors: int
    refused_fills: int
    errors: int
    hit_rate: float


class WireNumbers(BaseModel):
    """The connections to Redis: sums, each node with the state of its breaker, and seconds that commands took."""

    connections: int
    idle: int
    in_flight: int
    hits: int
    misses: int
    timeouts: int
    dialled: int
    dropped: int
    reconnects: int
    bytes_sent: int
    bytes_received: int
    retries: int
    refreshes: int
    nodes: list[dict[str, str | int]]
    latency: dict[str, dict[str, float]]


class Numbers(BaseModel):
    """``bay.stats()``, with the hit rate of each namespace, and what each limit decided."""

    wire: WireNumbers
    caches: dict[str, CacheNumbers]
    limits: dict[str, dict[str, int]]
    reported: dict[str, int]


class WarmIn(BaseModel):
    """How many users to cache ahead of time."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=100, ge=1, le=10_000)


class Warmed(BaseModel):
    """How many users were cached."""

    warmed: int


def operations_router(bay: AsyncForebay, engine: AsyncEngine, users: Users) -> APIRouter:
    """Return the routes for operators."""
    router = APIRouter(tags=["operations"])

    async def ask_database() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    @router.get("/healthz", summary="Ask the database and the cache for a sign of life", responses={503: {"model": Health}})
    async def healthz(response: Response) -> Health:
        database, cache = await asyncio.gather(_timed(ask_database), _timed(bay.ping))
        if database is None:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(
            status="unavailable" if database is None else "ok",
            database="down" if database is None else "up",
            cache="down" if cache is None else "up",
            latency_ms=Latency(database=database, cache=cache),
        )

    @router.get("/stats", summary="Hits, misses and hit rate of each namespace, what each limit decided, and the state of the connections")
    async def stats() -> Numbers:
        numbers = bay.stats()
        return Numbers(
            wire=WireNumbers(**to_builtins(numbers.wire)),
            caches={name: CacheNumbers(**asdict(tally), hit_rate=tally.hit_rate) for name, tally in numbers.caches.items()},
            limits={name: asdict(tally) for name, tally in numbers.limits.items()},
            reported=numbers.reported,
        )

    @router.post("/cache/warm", summary="Cache the users with the most posts", responses={503: {"description": "The cache is away"}})
    async def warm(request: Annotated[WarmIn | None, Body()] = None) -> Warmed:
        return Warmed(warmed=await users.warm((request or WarmIn()).limit))

    return router


async def _timed(ask: Callable[[], Awaitable[object]]) -> float | None:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE):
            await ask()
    except (*AWAY, ForebayError):
        return None
    return round((time.perf_counter() - began) * 1000, 3)
