"""A clock that a test moves: the clock of a server cannot be, so everything under a bay's prefix grows older instead.

Lifetimes are shortened, and the times that entries, sessions and limits hold are set back; what has no time left is removed. Windows
of limits, which begin with the server's clock, are set back by as many as have begun meanwhile. Versions of tags and the rolls of near
tiers are left as they are: they may live longer than what they are for, never shorter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, overload

from ..bay import AsyncForebay, Forebay
from ..colours import complete
from ..durations import Duration, to_ms
from ..errors import SettingsError
from ..port.scripts import Script

__all__ = ["AsyncMovedClock", "MovedClock", "moved_clock"]

_BATCH: Final = 500
_ROOMS: Final = {b"session:": "session", b"token:{": "session", b"token:revoked:#part:": "session", b"limit:{": "limit"}
_AGELESS: Final = re.compile(rb"(?:^#|:#)(?:tag:|clock$|version$|near:|call:|answers:)")

# KEYS[n]: a name; ARGV[1]: milliseconds, ARGV[2]: milliseconds before these; ARGV[n + 2]: "session" (also of tokens), "limit" or "cache".
_AGE: Final = Script(
    """
local by = tonumber(ARGV[1])
local function earlier(ms) return string.format('%.0f', tonumber(ms) - by) end
local function entry(key)
  local head = redis.call('GETRANGE', key, 0, 50)
  if #head < 51 or string.byte(head) ~= 1 then return end
  local lease, fresh = struct.unpack('>dd', string.sub(head, 10, 25))
  redis.call('SETRANGE', key, 9, struct.pack('>dd', lease == 0 and 0 or lease - by, fresh - by))
end
local function session(key)
  local times = {'#s', '#a', '#c', '%until', '%gone'}
  local meta = redis.call('HMGET', key, unpack(times))
  for at, field in ipairs(times) do
    if meta[at] then redis.call('HSET', key, field, earlier(meta[at])) end
  end
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 1) == '!' then
      local ends = earlier(redis.call('HGET', key, field))
      redis.call('HSET', key, field, ends)
      redis.pcall('HPEXPIREAT', key, ends, 'FIELDS', 2, string.sub(field, 2), field)
    end
  end
end
local function index(key)
  local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for at = 1, #members, 2 do redis.call('ZADD', key, 'XX', earlier(members[at + 1]), members[at]) end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + ARGV[2] * 1000
local us = by * 1000
local function fewer(text, from)  -- the times of a limit: of GCRA one that goes on, of windows where they begin
  local function begun(period) return math.floor((now + us) / period) - math.floor(now / period) end
  return (string.gsub(text, '[^,]+', function(one)
    local numbers = {}
    for number in string.gmatch(one, '%d+') do numbers[#numbers + 1] = number end
    local earlier_by = from == 3 and us or begun(numbers[1]) * numbers[1]
    numbers[from] = string.format('%.0f', math.max(0, numbers[from] - earlier_by))
    return table.concat(numbers, ':')
  end))
end
local function limit(key, kind)
  if kind == 'zset' then
    local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for at = 1, #members, 2 do redis.call('ZADD', key, 'XX', string.format('%.0f', members[at + 1] - us), members[at]) end
  elseif not string.match(key, ':rates$') and not string.match(key, ':turn$') then
    local windows = string.match(key, ':fixed$') or string.match(key, ':window$')
    redis.call('SET', key, fewer(redis.call('GET', key), windows and 2 or 3), 'KEEPTTL')
  end
end
for at = 1, #ARGV - 2 do
  local key = KEYS[at]
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= by then
    redis.call('UNLINK', key)
  else
    local kind, sessions = redis.call('TYPE', key).ok, ARGV[at + 2] == 'session'
    if ARGV[at + 2] == 'limit' then limit(key, kind) end
    if kind == 'string' and ARGV[at + 2] == 'cache' then entry(key) end
    if kind == 'hash' and sessions then session(key) end
    if kind == 'zset' and sessions then index(key) end
    if left > by then redis.call('PEXPIRE', key, string.format('%.0f', left - by)) end
  end
end
return 1
"""
)


class AsyncMovedClock:
    """The time of one bay's prefix, for asyncio. Time does not go back: what has grown older stays so."""

    def __init__(self, bay: AsyncForebay | Forebay) -> None:
        if not bay.prefix:
            raise SettingsError("a clock is moved for one prefix: give the bay a prefix=, so that nothing else on the server grows older")
        if bay.settings.topology == "cluster":
            raise SettingsError("a clock cannot be moved on a cluster: use a single server, such as the fixture forebay_server")
        self._port: Any = bay.port
        self._prefix = bay.prefix.encode()
        self._moved = 0

    @property
    def moved(self) -> float:
        """By how many seconds time was moved so far."""
        return self._moved / 1000

    async def advance(self, by: Duration) -> None:
        """Let *by* go by at once, for everything under the prefix.

        Raises:
            InvalidDuration: *by* is no duration.
            Unavailable, ServerError: the server could not be asked; some keys may have grown older.
        """
        step = to_ms(by)
        aged: set[bytes] = set()  # a scan may return a name again
        cursor = b"0"
        rooms = {self._prefix + head: room for head, room in _ROOMS.items()}
        try:
            while True:
                cursor, found = await self._port.execute("SCAN", cursor, "MATCH", _exactly(self._prefix) + b"*", "COUNT", _BATCH)
                names = [name for name in dict.fromkeys(found) if name not in aged and not _AGELESS.search(name[len(self._prefix) :])]
                if names:
                    kinds = [next((room for head, room in rooms.items() if name.startswith(head)), "cache") for name in names]
                    await _AGE.run(self._port, names, [step, self._moved, *kinds])
                    aged.update(names)
                if cursor == b"0":
                    break
        finally:
            self._port.tracking.swept(self._prefix)  # what is held near has its times from before
        self._moved += step

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.moved:g} s ahead>"


class MovedClock:
    """The time of one bay's prefix, for threads: `AsyncMovedClock` without ``await``."""

    def __init__(self, bay: Forebay) -> None:
        self._clock = AsyncMovedClock(bay)

    @property
    def moved(self) -> float:
        """By how many seconds time was moved so far."""
        return self._clock.moved

    def advance(self, by: Duration) -> None:
        """Let *by* go by at once, for everything under the prefix. Raises as `AsyncMovedClock.advance`."""
        complete(self._clock.advance(by))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.moved:g} s ahead>"


@overload
def moved_clock(bay: AsyncForebay) -> AbstractContextManager[AsyncMovedClock]: ...
@overload
def moved_clock(bay: Forebay) -> AbstractContextManager[MovedClock]: ...
def moved_clock(bay: AsyncForebay | Forebay) -> AbstractContextManager[Any]:
    """Return a clock to move, as in ``with moved_clock(bay) as clock: clock.advance("5m")`` (to be awaited for an `AsyncForebay`).

    Raises:
        SettingsError: the bay has no prefix, or is on a cluster.
    """
    return _lent(MovedClock(bay) if isinstance(bay, Forebay) else AsyncMovedClock(bay))


@contextmanager
def _lent(clock: Any) -> Iterator[Any]:
    yield clock


def _exactly(text: bytes) -> bytes:
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", text)
