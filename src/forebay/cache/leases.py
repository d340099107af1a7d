"""Who may fill an entry: the one whose token stands in its key. Any change of the key by anybody, ``DEL`` above all, ends that.

The token stands at the same place in a placeholder and in a value that is being refreshed, so that one script serves both.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..errors import Closed, ServerError, Unavailable
from ..port.clock import ServerClock
from ..port.port import Port, Reply
from ..port.scripts import Script
from .entry import new_token, placeholder
from .looking import Seen, State

__all__ = ["Leases"]

_WRONG_TYPE: Final = b"wrong type"
_MANY: Final = 500  # fills at once, above which they have the read timeout and not the budget of a request
_TIME: Final = struct.Struct(">d")

# KEYS[1]: the entry; ARGV[1]: the token. Everything below happens only while it stands there.
_HELD: Final = """
local head = redis.call('GETRANGE', KEYS[1], 0, 8)
local kind = string.byte(head)
if #head < 9 or (kind ~= 1 and kind ~= 2) or string.sub(head, 2) ~= ARGV[1] then return 0 end
"""
_FILL: Final = Script(
    _HELD
    + """
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
)
_RENEW: Final = Script(
    _HELD
    + """
if kind == 2 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) else redis.call('SETRANGE', KEYS[1], 9, ARGV[3]) end
return 1
"""
)
_RELEASE: Final = Script(
    _HELD
    + """
if kind == 2 then redis.call('UNLINK', KEYS[1]) else redis.call('SETRANGE', KEYS[1], 1, ARGV[2]) end
return 1
"""
)
# A value that is there and stays readable while it is refreshed: only if its header is still what was read.
_LEASE_VALUE: Final = Script(
    """
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], 1, ARGV[2])
return 1
"""
)
# What is dead is replaced by a placeholder, only if it is still that; or was replaced by this one, whose reply was lost.
_REPLACE: Final = Script(
    """
local type = redis.call('TYPE', KEYS[1]).ok
if type == 'string' then
  local data = redis.call('GET', KEYS[1])
  if data == ARGV[2] then return 1 end
  if redis.sha1hex(data) ~= ARGV[1] then return 0 end
elseif type == 'none' or ARGV[1] ~= 'wrong type' then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
)


class Leases:
    """Takes, renews, uses and gives back leases of *lasting* milliseconds."""

    def __init__(self, port: Port, clock: ServerClock, lasting: int) -> None:
        self._port = port
        self._clock = clock
        self.lasting = lasting

    async def acquire(self, name: str, seen: Seen) -> tuple[bytes | None, Reply]:
        """Try to take the lease of an entry that was *seen* so.

        Returns:
            The token; or None and what is stored there now, as far as that is known (None: look again).

        Raises:
            Unavailable, ServerError: it could not be taken.
        """
        token = new_token()
        try:
            return await self._acquire(name, seen, token)
        except Unavailable:  # it may have been taken, and nobody should wait for it, nor this caller any longer
            self._port.background(self.release({name: token}))
            raise
        except BaseException:  # also a cancellation
            self.let_go({name: token})
            raise

    async def _acquire(self, name: str, seen: Seen, token: bytes) -> tuple[bytes | None, Reply]:
        if seen.state is State.ABSENT:
            mine = placeholder(token)
            found = await self._port.execute("set", name, mine, "NX", "GET", "PX", self.lasting, idempotent=True)
            return (token, None) if found is None or found == mine else (None, found)
        if seen.state is State.DEAD:
            known = _WRONG_TYPE if seen.data is None else hashlib.sha1(seen.data, usedforsecurity=False).hexdigest()
            args = (known, placeholder(token), self.lasting)
            taken = await _REPLACE.run(self._port, [name], args, idempotent=True, hurry=True)
            return (token if taken else None), None
        assert seen.entry is not None  # noqa: S101 - what is alive and leased has an envelope
        until = _TIME.pack(await self._clock.ask() + self.lasting)
        taken = await _LEASE_VALUE.run(self._port, [name], [seen.entry.header, token + until], hurry=True)
        return (token if taken else None), None

    def keep(self, name: str, token: bytes) -> Callable[[], None]:
        """Renew the lease every third of its time, until what is returned is called."""
        return self._port.repeat(self.lasting / 3000, lambda: self._renew(name, token))

    async def fill(self, name: str, token: bytes, data: bytes, kept: int | None) -> bool:
        """Store *data* for *kept* milliseconds (None: for ever) if the lease still holds; return whether it did.

        Raises:
            Unavailable, ServerError: it was perhaps not stored.
        """
        filled = await _FILL.run(self._port, [name], [token, data, "" if kept is None else kept], idempotent=True, hurry=True)
        return bool(filled)

    async def fill_many(self, fills: Sequence[tuple[str, bytes, bytes, int | None]]) -> list[bool]:
        """Do as `fill` for several names, tokens, bytes and lifetimes, in one round trip.

        Raises:
            Unavailable, ServerError: some were perhaps not stored.
        """
        arguments = [([name], [token, data, "" if kept is None else kept]) for name, token, data, kept in fills]
        return [bool(reply) for reply in await _FILL.run_many(self._port, arguments, idempotent=True, hurry=len(fills) <= _MANY)]

    def let_go(self, tokens: Mapping[str, bytes], backoff: float = 0.0) -> None:
        """Give leases back, by name, without waiting for it: also at the end of a caller that was cancelled, or of the bay."""
        if tokens:
            self._port.launch(self.release(tokens, backoff), finishes=True)

    async def release(self, tokens: Mapping[str, bytes], backoff: float = 0.0) -> None:
        """Give leases back; a value that stays is not to be refreshed for *backoff* milliseconds. They end by themselves in any case."""
        until = _TIME.pack(self._clock.now() + backoff) if backoff else bytes(8)
        arguments = [([name], [token, bytes(8) + until]) for name, token in tokens.items()]
        try:
            await _RELEASE.run_many(self._port, arguments, idempotent=True, hurry=len(tokens) <= _MANY)
        except (Unavailable, ServerError, Closed):
            return  # nobody waits for it: the lease runs out

    async def _renew(self, name: str, token: bytes) -> None:
        try:
            until = _TIME.pack(self._clock.now() + self.lasting)
            await _RENEW.run(self._port, [name], [token, self.lasting, until], idempotent=True, hurry=True)
        except (Unavailable, ServerError, Closed):
            return  # a lease that runs out passes to another

    def __repr__(self) -> str:
        return f"<Leases of {self.lasting} ms>"
