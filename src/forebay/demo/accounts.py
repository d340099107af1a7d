"""Logins: who a user is, from where, and how that ends. A password that changes ends every other session."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ..sessions.core import SessionInfo
from ..sessions.options import SessionOptions
from ..sessions.session import Session
from ..sessions.sessions import AsyncSessions
from ..web.fastapi import require_fresh, require_session, session_of
from .limits import Limits
from .models import CredentialRow, LoginIn, PasswordIn, User, UserRow
from .passwords import Passwords
from .users import Responses, Users

__all__ = ["SESSIONS", "Accounts", "Device", "Me", "accounts_router", "same_origin"]

SESSIONS: Final[SessionOptions] = {"idle_timeout": "30m", "absolute_timeout": "12h", "max_per_user": 20}

_User = Annotated[Session, Depends(require_session)]
_FreshUser = Annotated[Session, Depends(require_fresh("15m"))]


class Device(BaseModel):
    """One session of the user, for the page of devices."""

    handle: str
    agent: str
    address: str
    created_at: datetime
    last_seen: datetime
    expires_at: datetime
    current: bool


class Me(BaseModel):
    """Who is logged in, and since when."""

    user: User
    created_at: datetime
    expires_at: datetime


class Accounts:
    """What the API does with logins."""

    def __init__(self, database: async_sessionmaker[AsyncSession], logins: AsyncSessions, users: Users, passwords: Passwords) -> None:
        self._database = database
        self._users = users
        self._passwords = passwords
        self.sessions = logins

    async def authenticated(self, email: str, password: str) -> int | None:
        """Return whose address and password these are; None if nobody's. An unknown address takes as long as a wrong password."""
        async with self._database() as database:
            query = (
                select(UserRow.id, CredentialRow.password_hash)
                .outerjoin(CredentialRow, CredentialRow.user_id == UserRow.id)
                .where(func.lower(UserRow.email) == email.lower())
                .order_by(UserRow.id)
                .limit(1)
            )
            found = (await database.execute(query)).one_or_none()
        user_id, stored = (None, None) if found is None else found
        if not await self._passwords.check(stored, password):
            return None
        if stored is not None and user_id is not None and self._passwords.outdated(stored):
            await self._store(user_id, password)
        return user_id

    async def change_password(self, session: Session, password: str) -> None:
        """Store another password, and end the user's other sessions."""
        assert session.user_id is not None  # noqa: S101 - a fresh session has a user
        await self._store(int(session.user_id), password)
        await self.sessions.destroy_for(session.user_id, except_=session.id)

    async def me(self, session: Session) -> Me | None:
        """Return the user of *session*; None if there is no such user any more."""
        user, _ = await self._users.find(int(session.user_id or 0))
        return None if user is None else Me(user=user, created_at=session.created_at, expires_at=session.expires_at)

    async def devices(self, session: Session) -> list[Device]:
        """Return all sessions of the user of *session*, the last used first."""
        return [_device(info, session.handle) for info in await self.sessions.list_for(session.user_id or "")]

    async def _store(self, user_id: int, password: str) -> None:
        hashed = await self._passwords.hash(password)
        try:
            async with self._database.begin() as database:
                await database.merge(CredentialRow(user_id=user_id, password_hash=hashed))
        except IntegrityError:  # the user was removed meanwhile
            return


def same_origin(request: Request) -> None:
    """Refuse what another site's page asks with the user's cookie: browsers name the origin of all that changes something."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "this was asked by another site")


def accounts_router(accounts: Accounts, limits: Limits) -> APIRouter:
    """Return the routes of `accounts`; logins are limited by account."""
    router = APIRouter(tags=["account"], dependencies=[Depends(same_origin)])
    refused: Responses = {401: {"description": "Nobody is logged in, or the password is wrong"}}

    often: Responses = {429: {"description": "This account, or from this address, was tried too often"}}

    @router.post("/login", summary="Log in: the session gets another id", responses={**refused, **often})
    async def login(request: Request, given: LoginIn) -> JSONResponse:
        await limits.check_login(request, given.email)
        user_id = await accounts.authenticated(given.email, given.password)
        if user_id is None:
            return JSONResponse({"error": "wrong address or password"}, 401)
        await limits.logged_in(given.email)
        await session_of(request).login(user_id, remember_me=given.remember_me)
        return JSONResponse({"user_id": user_id})

    @router.post("/logout", status_code=204, summary="Log out: the session ends")
    async def logout(request: Request) -> None:
        await session_of(request).logout()

    @router.get("/me", summary="Who is logged in", responses=refused)
    async def me(session: _User) -> Me:
        found = await accounts.me(session)
        if found is None:
            raise HTTPException(404, "this user was removed")
        return found

    @router.post("/me/password", status_code=204, summary="Change the password, and end all other sessions", responses=refused)
    async def change(given: PasswordIn, session: _FreshUser) -> None:
        await accounts.change_password(session, given.password)

    @router.get("/me/sessions", summary="List the devices on which the user is logged in", responses=refused)
    async def devices(session: _User) -> list[Device]:
        return await accounts.devices(session)

    @router.delete("/me/sessions/{handle}", status_code=204, summary="Log one device out", responses=refused)
    async def end(handle: str, session: _User, request: Request) -> None:
        if handle == session.handle:
            await session_of(request).logout()
        elif not await accounts.sessions.destroy_handle(session.user_id or "", handle):
            raise HTTPException(404, "there is no such device")

    @router.post("/me/logout-everywhere", status_code=204, summary="End all sessions of the user, or all others", responses=refused)
    async def everywhere(session: _User, request: Request, others: bool = False) -> None:
        await accounts.sessions.destroy_for(session.user_id or "", except_=session.id if others else None)
        if not others:
            await session_of(request).logout()

    return router


def _device(info: SessionInfo, current: str) -> Device:
    return Device(
        handle=info.handle,
        agent=info.device.agent,
        address=info.device.address,
        created_at=info.created_at,
        last_seen=info.last_seen,
        expires_at=info.expires_at,
        current=info.handle == current,
    )
