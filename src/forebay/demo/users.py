"""Users: written through on creation, read cache-aside for fifteen minutes, invalidated after the commit of every change.

What is read often is held in the process. For a minute after its time a value is served while it is refreshed, and for an hour
where the database is away.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, HTTPException, Response, status
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ..bay import AsyncForebay
from ..cache.cache import AsyncCache
from ..cache.making import CacheOptions
from ..errors import ForebayError
from ..sessions.sessions import AsyncSessions
from .models import CredentialRow, NewUserIn, PostRow, User, UserId, UserIn, UserRow
from .passwords import Passwords
from .xcache import HEADER, Outcome, ReadThrough, invalidated, logger

__all__ = ["CACHING", "Responses", "Users", "tag_of", "unknown_user", "users_router"]

CACHING: Final[CacheOptions] = {
    "ttl": "15m",
    "none_ttl": "30s",
    "stale_while_revalidate": "1m",
    "stale_if_error": "1h",
    "near": 10_000,
}

Responses = dict[int | str, dict[str, Any]]


class Users:
    """What the API does with users. An id without a user is cached as ``null``, so that asking for it again costs no query."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], bay: AsyncForebay, logins: AsyncSessions, passwords: Passwords) -> None:
        self._sessions = sessions
        self._passwords = passwords
        self._logins = logins
        self._cache: AsyncCache[User | None] = bay.cache("user", type=User | None, **CACHING)
        # A second handle on the same namespace, for the one caller who must hear that nothing was stored.
        loudly: CacheOptions = {**CACHING, "on_outage": "raise"}
        self._strict: AsyncCache[User | None] = bay.cache("user", type=User | None, **loudly)
        self._reads = ReadThrough(self._cache)

    async def create(self, new: NewUserIn) -> User | None:
        """Insert a user and cache it, or return None if the address is taken."""
        hashed = None if new.password is None else await self._passwords.hash(new.password)
        try:
            async with self._sessions.begin() as session:
                row = UserRow(email=new.email, name=new.name)
                session.add(row)
                if hashed is not None:
                    await session.flush()  # for the id
                    session.add(CredentialRow(user_id=row.id, password_hash=hashed))
        except IntegrityError:
            return None
        user = User.model_validate(row)
        try:
            await self._cache.set(user.id, user)  # also replaces a null from when the id was free
        except ForebayError as error:
            logger.warning("user %d was created, but not cached: %s", user.id, error)
        return user

    async def find(self, user_id: int) -> tuple[User | None, Outcome]:
        """Return a user, or None if there is none, and who said so."""
        return await self._reads.find(user_id, lambda: self._load(user_id))

    async def replace(self, user_id: int, new: UserIn) -> tuple[User, str] | None:
        """Change a user, then invalidate; None if there is no such user.

        Raises:
            IntegrityError: the address is taken.
        """
        async with self._sessions.begin() as session:
            change = update(UserRow).where(UserRow.id == user_id).values(email=new.email, name=new.name)
            row = await session.scalar(change.returning(UserRow))
            user = None if row is None else User.model_validate(row)
        if user is None:
            return None
        return user, await invalidated(f"user {user_id}", self._cache.delete(user_id))

    async def remove(self, user_id: int) -> str | None:
        """Delete a user with all posts, then everything cached about it; None if there is no such user."""
        async with self._sessions.begin() as session:
            gone = await session.scalar(delete(UserRow).where(UserRow.id == user_id).returning(UserRow.id))
        if gone is None:
            return None
        return await invalidated(
            f"user {user_id}", self._logins.destroy_for(user_id), self._cache.delete(user_id), self._cache.invalidate_tags(tag_of(user_id))
        )

    async def warm(self, limit: int) -> int:
        """Cache the *limit* users with the most posts: one query, one round trip. Return how many there were.

        A change that commits between the two can leave the older row behind for `LIFETIME`: warm before the traffic comes.

        Raises:
            Unavailable: nothing can be said to be cached.
        """
        posts = select(PostRow.user_id, func.count().label("count")).group_by(PostRow.user_id).subquery()
        popular = (
            select(UserRow)
            .outerjoin(posts, posts.c.user_id == UserRow.id)
            .order_by(func.coalesce(posts.c.count, 0).desc(), UserRow.id)
            .limit(limit)
        )
        async with self._sessions() as session:
            users = [User.model_validate(row) for row in await session.scalars(popular)]
        await self._strict.set_many({user.id: user for user in users})
        return len(users)

    async def _load(self, user_id: int) -> User | None:
        async with self._sessions() as session:
            row = await session.get(UserRow, user_id)
            return None if row is None else User.model_validate(row)


def tag_of(user_id: int) -> str:
    """Return the tag of everything that is cached about a user."""
    return f"user:{user_id}"


def unknown_user(user_id: int, outcome: str | None = None) -> HTTPException:
    """Return the 404 for *user_id*."""
    return HTTPException(status.HTTP_404_NOT_FOUND, f"there is no user {user_id}", headers={HEADER: outcome} if outcome else None)


def _taken(email: str) -> HTTPException:
    return HTTPException(status.HTTP_409_CONFLICT, f"the address {email} belongs to another user")


def users_router(users: Users) -> APIRouter:
    """Return the routes of `users`."""
    router = APIRouter(prefix="/users", tags=["users"])
    unknown: Responses = {404: {"description": "There is no such user"}}
    taken: Responses = {409: {"description": "The address belongs to another user"}}

    @router.post("", status_code=201, summary="Create a user, and cache it", responses=taken)
    async def create(new: NewUserIn, response: Response) -> User:
        user = await users.create(new)
        if user is None:
            raise _taken(new.email)
        response.headers["Location"] = f"/users/{user.id}"
        return user

    @router.get("/{user_id}", summary="Read a user, from the cache if it is there", responses=unknown)
    async def read(user_id: UserId, response: Response) -> User:
        user, outcome = await users.find(user_id)
        if user is None:
            raise unknown_user(user_id, outcome)
        response.headers[HEADER] = outcome
        return user

    @router.put("/{user_id}", summary="Change a user, then invalidate the cache", responses=unknown | taken)
    async def replace(user_id: UserId, new: UserIn, response: Response) -> User:
        try:
            changed = await users.replace(user_id, new)
        except IntegrityError:
            raise _taken(new.email) from None
        if changed is None:
            raise unknown_user(user_id)
        user, response.headers[HEADER] = changed
        return user

    @router.delete("/{user_id}", status_code=204, summary="Delete a user and all posts, then invalidate the cache", responses=unknown)
    async def remove(user_id: UserId, response: Response) -> None:
        outcome = await users.remove(user_id)
        if outcome is None:
            raise unknown_user(user_id)
        response.headers[HEADER] = outcome

    return router
