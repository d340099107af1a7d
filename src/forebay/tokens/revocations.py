"""What was revoked before its time. Each process holds the list near, and is told when it changes: a check asks nobody.

The list stands in sorted sets, by when each revocation may be forgotten, and is read through a cache. So what holds for caches
holds for it: once `revoke` has returned, no process that asks the server accepts what was revoked; one that has its part of the
list near does so while the message travels, and with ``near_strict`` not even then.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final

from ..cache.core import CacheCore
from ..colours import complete
from ..durations import Duration, to_ms
from ..errors import InvalidKey
from ..port.port import Port
from ..port.scripts import Script

__all__ = ["REVOKED", "Revocations"]

REVOKED: Final = "token:revoked"
_PARTS: Final = 64  # of the list, so that a change makes nobody read all of it again
_LONGEST: Final = 1024  # characters of an id

# KEYS[1]: a part; ARGV: milliseconds, ids.
_REVOKE: Final = Script(
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
for at = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + ARGV[1]), ARGV[at])
end
local left = redis.call('PTTL', KEYS[1])
if left < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
"""
)


class Revocations:
    """Ids that are not accepted any more: of tokens, of logins, or of whatever else is checked against them."""

    def __init__(self, port: Port, prefix: str, cache: CacheCore[frozenset[str]], *, awaits: bool) -> None:
        self._port = port
        self._base = f"{prefix}{REVOKED}:#part:"
        self._cache = cache
        self._loads = [partial(self.read if awaits else self._read_at_once, part) for part in range(_PARTS)]

    async def revoke(self, *ids: str, ttl: Duration) -> None:
        """Accept *ids* no more, for *ttl*: until what they name would have ended by itself.

        Raises:
            InvalidKey: an id is no text, empty, or too long.
            Unavailable: they may or may not be revoked, and some processes may accept them still. It is safe to repeat.
        """
        parts: dict[int, list[str]] = {}
        for each in ids:
            part, member = _place(each)
            parts.setdefault(part, []).append(member)
        milliseconds = to_ms(ttl)
        for part, members in parts.items():
            await _REVOKE.run(self._port, [f"{self._base}{part}"], [milliseconds, *members], idempotent=True)
        if parts:
            await self._cache.delete(*parts)

    async def is_revoked(self, *ids: str) -> bool:
        """Whether one of *ids* was revoked.

        Raises:
            InvalidKey: an id is no text, empty, or too long.
            Unavailable: it is not known.
        """
        for each in ids:
            part, member = _place(each)
            if member in await self._cache.get_or_set(part, self._loads[part]):
                return True
        return False

    async def read(self, part: int) -> frozenset[str]:
        """Return a part of the list as it stands on the server. What may be forgotten does no harm."""
        return frozenset(each.decode() for each in await self._port.execute("ZRANGE", f"{self._base}{part}", 0, -1))

    def _read_at_once(self, part: int) -> frozenset[str]:
        return complete(self.read(part))

    def __repr__(self) -> str:
        return f"Revocations({self._base!r})"


def _place(id: str) -> tuple[int, str]:  # noqa: A002 - the word for it
    """Return the part of the list in which *id* stands, and as what."""
    if not isinstance(id, str) or not 0 < len(id) <= _LONGEST:
        raise InvalidKey(f"an id to revoke is text of 1 to {_LONGEST} characters, not {type(id).__name__} of another size")
    digest = hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()[:32]
    return int(digest[:2], 16) % _PARTS, digest
