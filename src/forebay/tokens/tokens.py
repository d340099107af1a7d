"""The two colours of tokens, the same names and parameters in both: one awaits the core, the other completes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..colours import complete, documented_like
from ..sessions.core import SessionInfo
from ..sessions.record import Device
from .core import AccessToken, TokenPair, TokensCore

__all__ = ["AsyncTokens", "Tokens"]


class AsyncTokens(TokensCore):
    """Tokens for asyncio. Get them from `AsyncForebay.tokens`."""


@documented_like(TokensCore)
class Tokens:
    """Tokens for threads. Get them from `Forebay.tokens`; all threads may share them."""

    def __init__(self, core: TokensCore) -> None:
        self._core = core

    def issue(self, user_id: str | int, *, claims: Mapping[str, Any] | None = None, device: Device | str | None = None) -> TokenPair:
        return complete(self._core.issue(user_id, claims=claims, device=device))

    def refresh(self, refresh_token: str, *, claims: Mapping[str, Any] | None = None) -> TokenPair:
        return complete(self._core.refresh(refresh_token, claims=claims))

    def verify(self, access_token: str) -> AccessToken:
        return complete(self._core.verify(access_token))

    def revoke(self, refresh_token: str) -> None:
        complete(self._core.revoke(refresh_token))

    def revoke_access(self, access_token: str) -> None:
        complete(self._core.revoke_access(access_token))

    def revoke_handle(self, user_id: str | int, handle: str) -> bool:
        return complete(self._core.revoke_handle(user_id, handle))

    def revoke_for(self, user_id: str | int, *, except_: str | None = None) -> int:
        return complete(self._core.revoke_for(user_id, except_=except_))

    def list_for(self, user_id: str | int) -> list[SessionInfo]:
        return complete(self._core.list_for(user_id))

    def __repr__(self) -> str:
        return repr(self._core).replace("TokensCore(", "Tokens(", 1)
