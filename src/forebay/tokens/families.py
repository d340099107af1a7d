"""A family is all that follows from one login: a session whose secret changes with every use. A token used twice ends it.

Rotation and the detection of reuse are those of RFC 9700, section 4.14.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final

from ..errors import DecodeError, RefreshTokenInvalid, RefreshTokenReused
from ..events import RefreshTokenCopied
from ..port.scripts import Script
from ..sessions.core import SessionsCore
from ..sessions.record import Device, read_record
from ..sessions.scripts import FOUND, LEAVE
from ..sessions.session import Session
from ..sessions.token import Keys, handle_of, user_text
from ..wire.resp import Arg
from .refresh_token import RefreshToken, RefreshTokens

__all__ = ["Families"]

# The hash is a session's, and holds under %now the digest of the token that is good; under %was, %until and %nonce the one before
# it, until when its holder may ask again, and the bits that made the one that is good; under %old and %gone the one before that.
# ARGV: digest of the family, of the token presented, of the one that would follow it, the bits that make it, and how long the
# token presented may be presented again. Returns 1, the bits that made what follows, and the hash; 0: there is none; -1: it was
# used before, and the family ends; -2: it was used twice within its time, and whoever has the newest goes on.
_ROTATE: Final = Script(
    FOUND
    + """
local held = redis.call('HMGET', KEYS[1], '%now', '%was', '%until', '%nonce', '%old', '%gone')
local nonce = ARGV[4]
if held[1] == ARGV[2] then
  redis.call('HSET', KEYS[1], '%now', ARGV[3], '%was', ARGV[2], '%until', number(now + ARGV[5]), '%nonce', nonce,
    '%old', held[2] or '', '%gone', held[3] or 0)
  redis.call('HINCRBY', KEYS[1], '#v', 1)
elseif held[2] == ARGV[2] and (held[4] == nonce or now < tonumber(held[3])) then
  nonce = held[4]
elseif held[5] == ARGV[2] and now < tonumber(held[6]) then
  return {-2}
else
  redis.call('UNLINK', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {-1}
end
prolong()
return {1, nonce, redis.call('HGETALL', KEYS[1])}
"""
)


class Families(SessionsCore):
    """The families of one bay, under ``<prefix>token:``."""

    _room = "token"

    def __init__(self, *of_sessions: Any, refresh: RefreshTokens, grace: int) -> None:
        """Take what sessions take; how tokens are made, and for how many milliseconds a used one may be presented again."""
        super().__init__(*of_sessions)
        self._refresh = refresh
        self._grace = grace

    async def start(
        self, user_id: str | int, claims: Mapping[str, Any] | None, device: Device | str | None
    ) -> tuple[RefreshToken, Session]:
        """Begin a family, and return its first token and what is known of it."""
        session = self.begin(user_id, device)
        session.update(claims or {})
        changes = session.changes()
        token = self._refresh.first(session.token)
        changes.put["%now"] = token.digest.encode()
        await self._begun(session, changes)
        return token, session

    async def rotate(self, text: object) -> tuple[RefreshToken, Session]:
        """Return the token that follows, and what is known of the family.

        Raises:
            RefreshTokenInvalid: there is no such token.
            RefreshTokenReused: it was used before. The family has ended.
            Unavailable: the same token may be presented again.
        """
        token = self._refresh.read(text)
        family, nonce = token.family, token_hex(16)
        args: list[Arg] = [family.digest, token.digest, self._refresh.next(token, nonce).digest, nonce, self._grace]
        status, *rest = await _ROTATE.run(self._port, self._keys(family), args, idempotent=True)
        if status == -1:
            error = RefreshTokenReused("this refresh token was used before: all tokens of its login are revoked")
            self._reporter.report(RefreshTokenCopied(error, token.handle))
            raise error
        if status != 1:
            raise RefreshTokenInvalid("there is no such refresh token")
        flat = rest[1]
        try:
            record = read_record(dict(zip(flat[::2], flat[1::2], strict=True)))
        except DecodeError as error:
            raise RefreshTokenInvalid("what is stored of this refresh token cannot be read") from error
        return self._refresh.next(token, rest[0].decode()), self.reading.session(family, record, float(record.seen))

    async def end(self, text: object) -> str:
        """End the family of a token, however old; return its handle."""
        token = self._refresh.read(text)
        await LEAVE.run(self._port, self._keys(token.family), [token.family.digest, 0], idempotent=True)
        return token.handle

    async def handles(self, user_id: str | int) -> set[str]:
        """Return the handles of a user's families, with those that ended lately."""
        keys = Keys(self._base, self._tokens.tag(user_text(user_id)))
        return {handle_of(digest.decode()) for digest in await self._port.execute("ZRANGE", keys.index, 0, -1)}

    async def end_all(self, user_id: str | int, kept: RefreshToken | None) -> set[str]:
        """End the families of a user, except that of the token *kept*; return the handles of those that there were."""
        _, there = await self._revoke(user_id, None if kept is None else kept.family.text, listed=True)
        return {handle_of(digest) for digest in there}
