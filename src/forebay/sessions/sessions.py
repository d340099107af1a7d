"""The two colours of sessions, the same names and parameters in both: one awaits the core, the other completes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from ..colours import complete, documented_like
from ..durations import Duration
from .core import SessionInfo, SessionsCore
from .record import Device
from .session import Session

__all__ = ["AsyncSessions", "Sessions"]


class AsyncSessions(SessionsCore):
    """Sessions for asyncio. Get them from `AsyncForebay.sessions`."""


@documented_like(SessionsCore)
class Sessions:
    """Sessions for threads. Get them from `Forebay.sessions`; all threads may share them, but not one `Session`."""

    def __init__(self, core: SessionsCore) -> None:
        self._core = core

    def create(
        self,
        user_id: str | int | None = None,
        data: Mapping[str, Any] | None = None,
        device: Device | str | None = None,
        *,
        remember_me: bool = False,
    ) -> Session:
        return complete(self._core.create(user_id, data, device, remember_me=remember_me))

    def begin(self, user_id: str | int | None = None, device: Device | str | None = None, *, remember_me: bool = False) -> Session:
        return self._core.begin(user_id, device, remember_me=remember_me)

    def load(self, id: str) -> Session:  # noqa: A002
        return complete(self._core.load(id))

    def save(self, session: Session, *, check: Literal["version"] | None = None) -> bool:
        return complete(self._core.save(session, check=check))

    def touch(self, session: Session) -> bool:
        return complete(self._core.touch(session))

    def regenerate(
        self,
        session: Session,
        *,
        user_id: str | int | UnsetType | None = UNSET,
        device: Device | str | None = None,
        remember_me: bool | None = None,
        grace: Duration | None = None,
        authenticated: bool = False,
    ) -> Session:
        options: dict[str, Any] = {"user_id": user_id, "device": device, "remember_me": remember_me, "grace": grace}
        return complete(self._core.regenerate(session, **options, authenticated=authenticated))

    def destroy(self, id: str) -> bool:  # noqa: A002
        return complete(self._core.destroy(id))

    def list_for(self, user_id: str | int) -> list[SessionInfo]:
        return complete(self._core.list_for(user_id))

    def destroy_handle(self, user_id: str | int, handle: str) -> bool:
        return complete(self._core.destroy_handle(user_id, handle))

    def destroy_for(self, user_id: str | int, *, except_: str | None = None) -> bool:
        return complete(self._core.destroy_for(user_id, except_=except_))

    def __repr__(self) -> str:
        return repr(self._core).replace("SessionsCore(", "Sessions(", 1)
