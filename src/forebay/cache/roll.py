"""``near_strict``: the processes that hold entries of a namespace near stand on a roll, which an invalidation calls.

Each stands there until the end of a short lease, which it renews through the very connection that tells it of changes: whoever
has renewed has heard of everything before. Without a lease nothing is served near. An invalidation that was acknowledged
calls the roll: the members are told through that connection, and answer once they have let go of everything before. Who is
silent is waited for until its lease has run out. Times are those of the server's clock, and as good as that.
"""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Final

from ..errors import Unavailable
from ..forks import renew_after_fork
from ..keys import Namespace
from ..port.port import Port
from ..port.scripts import Script
from ..wire.resp import Arg, pack

__all__ = ["Roll"]

LEASE: Final = 1000  # milliseconds
_TRUSTED: Final = 0.9  # of a lease, for clocks that do not run equally fast
_RENEW_EVERY: Final = LEASE / 3000
_KEPT: Final = 10 * LEASE  # milliseconds after which a roll, or answers that nobody fetched, are gone

_NOW: Final = "local time = redis.call('TIME')\nlocal now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
# KEYS[1]: a roll; ARGV: the member, its lease, and how long a roll is kept.
_ENROL: Final = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
)
# KEYS[1]: the roll; KEYS[2]: a name that tells its members (it is written and removed: to broadcasts both are changes).
# ARGV[1]: who calls, and need not answer. Returns members and what is left of their leases.
_CALL: Final = Script(
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now))
local members = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local others = {}
for at = 1, #members, 2 do
  if members[at] ~= ARGV[1] then
    others[#others + 1] = members[at]
    others[#others + 1] = members[at + 1] - now
  end
end
if #others > 0 then
  redis.call('SET', KEYS[2], '')
  redis.call('DEL', KEYS[2])
end
return others
"""
)


class Roll:
    """The roll of one namespace, as one process sees it: it may call it, and, if it listens, stand on it."""

    def __init__(self, prefix: str, space: Namespace) -> None:
        parts = space.label.split(":")
        outer = [":".join(parts[: count + 1]) for count in range(len(parts))]  # what ends outside ends in here as well
        self._roll = f"{prefix}#near:{space.label}"
        self._call = f"{prefix}#call:{space.label}#"
        self._answers = f"{prefix}#answers:"
        self._rolls = [f"{prefix}#near:{label}" for label in outer]
        self.prefixes = [f"{prefix}#call:{label}#" for label in outer]
        self._calls = tuple(each.encode() for each in self.prefixes)
        self.until = 0.0  #: until then, on the clock of time.monotonic(), what is held near may be served
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Be somebody else, in a forked child, that stands on no roll."""
        self.member = token_hex(8)
        self.until = 0.0

    # a member

    def enrolment(self) -> list[bytes]:
        """Return the commands that renew the lease, for the connection that tells of changes."""
        return [pack(("EVAL", _ENROL, 1, roll, self.member, LEASE, _KEPT)) for roll in self._rolls]

    def enrolled(self, sent_at: float) -> float:
        """Hold the lease: the command was sent at *sent_at*, and everything told before its reply was heard. Return when to renew."""
        self.until = sent_at + LEASE * _TRUSTED / 1000
        return sent_at + _RENEW_EVERY

    def answers_to(self, names: list[bytes]) -> list[bytes]:
        """Return the commands that answer the calls among *names*, which were told of and heeded."""
        commands: list[bytes] = []
        for name in names:
            if name.startswith(self._calls):
                answers = self._answers + name.rpartition(b"#")[2].decode(errors="replace")
                commands += [pack(("RPUSH", answers, self.member)), pack(("PEXPIRE", answers, _KEPT))]
        return commands

    async def leave(self, port: Port) -> None:
        """Serve nothing near any more, and be waited for no longer."""
        if self.until:
            self.until = 0.0
            commands: list[tuple[Arg, ...]] = [("zrem", roll, self.member) for roll in self._rolls]
            try:
                await port.execute_many(commands, idempotent=True)
            except Unavailable:
                return  # the lease runs out

    # who invalidates

    async def call(self, port: Port) -> None:
        """Return once no other process holds anything near that was invalidated before.

        Raises:
            Unavailable, ServerError: it is not known who holds something. What was invalidated is.
        """
        number = token_hex(8)
        reply = await _CALL.run(port, [self._roll, self._call + number], [self.member], idempotent=True)
        heard_at = time.monotonic()
        leases = {bytes(member): heard_at + left / 1000 for member, left in zip(reply[::2], reply[1::2], strict=True)}
        while leases:
            left = max(leases.values()) - time.monotonic()
            if left <= 0:
                return
            try:
                answers = await port.execute(
                    "BLMPOP", f"{max(left, 0.001):.3f}", 1, self._answers + number, "LEFT", "COUNT", len(leases), timeout=left + 1
                )
            except Unavailable:
                await port.waiting.sleep(left)  # without answers the leases run out
                return
            for member in answers[1] if answers is not None else ():
                leases.pop(bytes(member), None)

    def __repr__(self) -> str:
        standing = "a member" if self.until > time.monotonic() else "no member"
        return f"<Roll of {self._roll!r}, {standing}>"
