"""Posts: a user's list is cached as one entry, ``user:<id>:posts``, and invalidated after the commit of every new post."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ..bay import AsyncForebay
from .models import Post, PostIn, PostRow, UserId
from .users import CACHING, Users, tag_of, unknown_user
from .xcache import HEADER, Outcome, ReadThrough, invalidated

__all__ = ["Posts", "posts_router"]


class _NoSuchUser(Exception):
    """Raised by the loader, so that no list is stored for a user who is not there."""


class Posts:
    """What the API does with posts. Whether a user exists, `Users` knows: from the cache if it can."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], bay: AsyncForebay, users: Users) -> None:
        self._sessions = sessions
        self._users = users
        self._cache = bay.cache("user", type=list[Post], **CACHING)
        self._reads = ReadThrough(self._cache)

    async def find(self, user_id: int) -> tuple[list[Post], Outcome] | None:
        """Return a user's posts, oldest first, and who knew them; None if there is no such user."""
        try:
            return await self._reads.find(_key(user_id), lambda: self._load(user_id), [tag_of(user_id)])
        except _NoSuchUser:
            return None

    async def create(self, user_id: int, new: PostIn) -> tuple[Post, str] | None:
        """Insert a post, then invalidate the list; None if there is no such user."""
        try:
            async with self._sessions.begin() as session:
                row = PostRow(user_id=user_id, title=new.title, body=new.body)
                session.add(row)
        except IntegrityError:  # the foreign key: no question asked beforehand could be as sure
            return None
        return Post.model_validate(row), await invalidated(f"the list of posts of user {user_id}", self._cache.delete(_key(user_id)))

    async def _load(self, user_id: int) -> list[Post]:
        user, _ = await self._users.find(user_id)
        if user is None:
            raise _NoSuchUser
        async with self._sessions() as session:
            rows = await session.scalars(select(PostRow).where(PostRow.user_id == user_id).order_by(PostRow.id))
            return [Post.model_validate(row) for row in rows]


def _key(user_id: int) -> str:
    return f"{user_id}:posts"


def posts_router(posts: Posts) -> APIRouter:
    """Return the routes of `posts`."""
    router = APIRouter(prefix="/users/{user_id}/posts", tags=["posts"], responses={404: {"description": "There is no such user"}})

    @router.get("", summary="List a user's posts, from the cache if they are there")
    async def read(user_id: UserId, response: Response) -> list[Post]:
        found = await posts.find(user_id)
        if found is None:
            raise unknown_user(user_id, "MISS")
        listed, response.headers[HEADER] = found
        return listed

    @router.post("", status_code=201, summary="Write a post, then invalidate the list")
    async def create(user_id: UserId, new: PostIn, response: Response) -> Post:
        created = await posts.create(user_id, new)
        if created is None:
            raise unknown_user(user_id)
        post, response.headers[HEADER] = created
        return post

    return router
