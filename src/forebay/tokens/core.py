"""Every operation on tokens, once for both colours. A login gives a pair; the pair is renewed until the login is revoked or ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

from msgspec import Struct

from ..errors import AccessTokenRevoked, RefreshTokenReused
from ..sessions.core import SessionInfo
from ..sessions.record import Device
from ..sessions.session import Session, moment
from .families import Families
from .refresh_token import RefreshToken, RefreshTokens
from .revocations import Revocations
from .signing import OWN_CLAIMS, Signer

__all__ = ["AccessToken", "TokenPair", "TokensCore"]

_MARGIN: Final = 60.0  # seconds for which a revocation is kept beyond what it revokes: clocks differ


class TokenPair(Struct, frozen=True):
    """What a client gets: an access token for its requests, and a refresh token, used once, for the next pair.

    ``expires_in`` is of the access token, in seconds; ``refresh_expires_at`` when the login ends unless it is renewed before.
    """

    access_token: str
    refresh_token: str
    expires_in: int
    refresh_expires_at: datetime
    user_id: str
    handle: str

    @property
    def response(self) -> dict[str, Any]:
        """The answer of a token endpoint (RFC 6749, section 5.1). It must not be kept by caches."""
        return {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "refresh_token": self.refresh_token,
        }

    def __repr__(self) -> str:
        return f"<TokenPair of user {self.user_id!r}, login {self.handle[:8]}>"


class AccessToken(Struct, frozen=True):
    """What an access token says. ``handle`` names the login, as `list_for` does; ``claims`` are the application's."""

    user_id: str
    handle: str
    id: str
    issued_at: datetime
    expires_at: datetime
    claims: dict[str, Any]


class TokensCore:
    """The tokens of one bay. Get them from `AsyncForebay.tokens` or `Forebay.tokens`."""

    def __init__(
        self, families: Families, refresh: RefreshTokens, revocations: Revocations, signer: Signer, access: float, leeway: float
    ) -> None:
        self._families = families
        self._refresh = refresh
        self._revocations = revocations
        self._signer = signer
        self._access = access
        self._kept = access + leeway + _MARGIN

    async def issue(self, user_id: str | int, *, claims: Mapping[str, Any] | None = None, device: Device | str | None = None) -> TokenPair:
        """Return the first pair of a login. Ask who the user is before.

        Args:
            claims: what every access token of this login says beside whose it is: JSON's own types, readable by the client.
            device: what the client says of itself; shown by `list_for`.

        Raises:
            InvalidKey, EncodeError, UsageError: the user id or a claim cannot be stored, or a claim's name is taken.
            TooManySessions: with ``when_full="refuse"``.
            Unavailable: nobody is logged in.
        """
        self._signer.check(claims or {})
        token, session = await self._families.start(user_id, claims, device)
        return self._pair(token, session, {})

    async def refresh(self, refresh_token: str, *, claims: Mapping[str, Any] | None = None) -> TokenPair:
        """Return the next pair. The token presented is used up.

        Args:
            claims: said by this access token in place of what the login's say under the same names.

        Raises:
            RefreshTokenInvalid: there is no such token: the user must log in.
            RefreshTokenReused: it was used before ``grace`` ended, so two have it: the login and its access tokens are revoked.
            UsageError, EncodeError: a claim's name is taken, or its value is no JSON. The token is not used up.
            Unavailable: the client may present the same token again, within ``grace``.
        """
        self._signer.check(claims or {})
        try:
            token, session = await self._families.rotate(refresh_token)
        except RefreshTokenReused:
            await self._revocations.revoke(self._refresh.read(refresh_token).handle, ttl=self._kept)
            raise
        return self._pair(token, session, claims or {})

    async def verify(self, access_token: str) -> AccessToken:
        """Return what an access token says. Once warm this asks nobody.

        Raises:
            AccessTokenInvalid: it is not one of ours, was changed, or its time is over.
            AccessTokenRevoked: it was revoked, or its login was.
            Unavailable: it is not known whether it was. Answer 503.
        """
        said = self._signer.read(access_token)
        if await self._revocations.is_revoked(said["jti"], said["sid"]):
            raise AccessTokenRevoked("this access token was revoked")
        claims = {name: value for name, value in said.items() if name not in OWN_CLAIMS}
        return AccessToken(said["sub"], said["sid"], said["jti"], moment(said["iat"] * 1000), moment(said["exp"] * 1000), claims)

    async def revoke(self, refresh_token: str) -> None:
        """End a login, as a logout does: its refresh token, and all its access tokens.

        Raises:
            RefreshTokenInvalid: what was given cannot be one. (One that has ended already is no error.)
            Unavailable: it may go on. It is safe to repeat.
        """
        await self._revocations.revoke(await self._families.end(refresh_token), ttl=self._kept)

    async def revoke_access(self, access_token: str) -> None:
        """Accept one access token no more; its login goes on.

        Raises:
            AccessTokenInvalid: it is not accepted anyway.
            Unavailable: it may be accepted still. It is safe to repeat.
        """
        await self._revocations.revoke(self._signer.read(access_token)["jti"], ttl=self._kept)

    async def revoke_handle(self, user_id: str | int, handle: str) -> bool:
        """End the login that `list_for` names *handle*; return whether there was one.

        Raises:
            Unavailable: it may go on. It is safe to repeat.
        """
        if handle not in await self._families.handles(user_id):
            return False
        await self._revocations.revoke(handle, ttl=self._kept)  # first, so that a repeat after a failure still finds it
        return await self._families.destroy_handle(user_id, handle)

    async def revoke_for(self, user_id: str | int, *, except_: str | None = None) -> int:
        """End all logins of a user, with their access tokens; return how many there were.

        Args:
            except_: the refresh token of the login that goes on.

        Raises:
            RefreshTokenInvalid: *except_* cannot be one.
            Unavailable: they may go on. It is safe to repeat.
        """
        kept = None if except_ is None else self._refresh.read(except_)
        known = await self._families.handles(user_id)
        if kept is not None:
            known.discard(kept.handle)
        await self._revocations.revoke(*known, ttl=self._kept)  # first, so that a repeat after a failure still finds them
        ended = await self._families.end_all(user_id, kept)
        await self._revocations.revoke(*(ended - known), ttl=self._kept)
        return len(ended)

    async def list_for(self, user_id: str | int) -> list[SessionInfo]:
        """Return the logins of a user, the last used first.

        Raises:
            Unavailable: they could not be read.
        """
        return await self._families.list_for(user_id)

    def _pair(self, token: RefreshToken, session: Session, claims: Mapping[str, Any]) -> TokenPair:
        now = int(time.time())
        user, handle = session.user_id or "", session.handle
        own = {"sub": user, "sid": handle, "jti": token_hex(16), "iat": now, "exp": now + int(self._access)}
        access = self._signer.sign(own, {**session, **claims})
        return TokenPair(access, token.text, int(self._access), session.expires_at, user, handle)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._signer!r})"
