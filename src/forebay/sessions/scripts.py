"""What is decided about sessions is decided by one script each: who exists, what ends, and that nothing that ended comes back.

Of one user's sessions all keys are in one slot. KEYS[1] is the session, KEYS[2] the user's index (digests by their end) and
KEYS[3] the epoch: sixteen characters that each session records, and after a dot the digest that the last revocation spared.
Every write leaves every key with a lifetime.
"""

from __future__ import annotations

from typing import Final

from ..port.scripts import Script

__all__ = ["COMMIT", "CREATE", "FOUND", "LEAVE", "REVOKE", "TOUCH"]

_COMMON: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function number(n) return string.format('%.0f', n) end
local function whole(text) return string.match(text, '^%d+$') end
local function outlive(key, ms)
  if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, number(ms)) else redis.call('PEXPIRE', key, number(ms), 'GT') end
end
local function alive(record, epoch, digest)
  return record and (string.sub(record, 1, 16) == epoch or string.sub(record, 18) == digest)
end
local function limit(field, ends)
  redis.call('HSET', KEYS[1], '!' .. field, ends)
  redis.pcall('HPEXPIREAT', KEYS[1], ends, 'FIELDS', 2, field, '!' .. field)
end
local function ending(ms)
  if string.sub(ms, 1, 1) == '+' then return number(now + string.sub(ms, 2)) end
  return ms
end
"""

# The meeting point of commit and touch: the session there is, unless it is gone, unreadable, revoked, or about to leave.
FOUND: Final = (
    _COMMON
    + """
local meta = redis.call('HMGET', KEYS[1], '#v', '#u', '#e', '#a', '#i', '#g')
for at = 1, 5 do if not meta[at] then return {0} end end
if not whole(meta[1]) or not whole(meta[4]) or not whole(meta[5]) then return {0} end
if meta[2] ~= '' and not alive(redis.call('GET', KEYS[3]), meta[3], ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {0}
end
if meta[6] then return {0} end
local life = math.min(tonumber(meta[5]), tonumber(meta[4]) - now)
if life <= 0 then return {0} end
local function prolong()
  redis.call('HSET', KEYS[1], '#s', number(now))
  redis.call('PEXPIRE', KEYS[1], number(life))
  if meta[2] ~= '' then redis.call('ZADD', KEYS[2], 'XX', number(now + life), ARGV[1]) end
end
"""
)

# What a session becomes that others may still read for a while: it ends then at the latest, and is changed and prolonged no more.
_LEAVING: Final = """
local function leave(key, digest, ms)
  redis.call('ZREM', KEYS[2], digest)
  if ms == '0' then return redis.call('UNLINK', key) end
  redis.call('HSET', key, '#g', 1)
  if redis.call('PTTL', key) > tonumber(ms) then redis.call('PEXPIRE', key, ms) end
  return 1
end
"""

# ARGV: digest, "1" for a user, base of names, idle, absolute end ("+ms" from now), most sessions (0: any number), "refuse" or
# "evict", bits for a first epoch, digest of the user's session (KEYS[4]) whose place it takes or "", milliseconds that this one
# may still be read, how many pairs, those pairs, and (field, end) for those that end sooner.
CREATE: Final = Script(
    _COMMON
    + _LEAVING
    + """
if KEYS[4] then
  local meta = redis.call('HMGET', KEYS[4], '#e', '#g')
  if not meta[1] or meta[2] or not alive(redis.call('GET', KEYS[3]), meta[1], ARGV[9]) then return {-2} end
end
local ends = tonumber(ending(ARGV[5]))
local life = math.min(tonumber(ARGV[4]), ends - now)
if life <= 0 then return {0} end
local epoch = ''
if ARGV[2] == '1' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', number(now))
  redis.call('ZREM', KEYS[2], ARGV[1])
  local most = tonumber(ARGV[6])
  if most > 0 and not KEYS[4] then
    local excess = redis.call('ZCARD', KEYS[2]) - most + 1
    if excess > 0 then
      if ARGV[7] == 'refuse' then return {-1} end
      for _, digest in ipairs(redis.call('ZRANGE', KEYS[2], 0, excess - 1)) do
        redis.call('UNLINK', ARGV[3] .. digest)
        redis.call('ZREM', KEYS[2], digest)
      end
    end
  end
  local record = redis.call('GET', KEYS[3])
  if not record then
    record = ARGV[8]
    redis.call('SET', KEYS[3], record, 'PX', number(ends - now + 60000))
  end
  outlive(KEYS[3], ends - now + 60000)
  epoch = string.sub(record, 1, 16)
  redis.call('ZADD', KEYS[2], number(now + life), ARGV[1])
  outlive(KEYS[2], ends - now)
end
redis.call('HSET', KEYS[1], '#v', 1, '#e', epoch, '#s', number(now), '#a', number(ends), '#i', ARGV[4], '#c', number(now))
local at = 12
for _ = 1, tonumber(ARGV[11]) do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  at = at + 2
end
redis.call('PEXPIRE', KEYS[1], number(life))
while ARGV[at] do
  limit(ARGV[at], ending(ARGV[at + 1]))
  at = at + 2
end
if KEYS[4] then leave(KEYS[4], ARGV[9], ARGV[10]) end
return {1, now, ends}
"""
)

# ARGV: digest, version that it must have ("" for any), how many fields to set, fields and values, how many to remove, those,
# and (field, end) for those that end sooner.
COMMIT: Final = Script(
    FOUND
    + """
if ARGV[2] ~= '' and ARGV[2] ~= meta[1] then return {-1, tonumber(meta[1])} end
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  redis.call('HDEL', KEYS[1], '!' .. ARGV[at])
  at = at + 2
end
local removed = tonumber(ARGV[at])
for _ = 1, removed do
  at = at + 1
  redis.call('HDEL', KEYS[1], ARGV[at], '!' .. ARGV[at])
end
at = at + 1
while ARGV[at] do
  limit(ARGV[at], ending(ARGV[at + 1]))
  at = at + 2
end
local version = redis.call('HINCRBY', KEYS[1], '#v', 1)
prolong()
return {1, version, now}
"""
)

# ARGV: digest.
TOUCH: Final = Script(FOUND + "prolong()\nreturn {1, tonumber(meta[1]), now}\n")

# ARGV: digest, milliseconds that it may still be read, "1" if what is leaving already, and has another id, is not meant. What
# was revoked is there no more, whatever is left of it.
LEAVE: Final = Script(
    _COMMON
    + _LEAVING
    + """
local meta = redis.call('HMGET', KEYS[1], '#u', '#e', '#g')
redis.call('ZREM', KEYS[2], ARGV[1])
if not meta[1] or (meta[3] and ARGV[3] == '1') then return 0 end
if meta[1] ~= '' and not alive(redis.call('GET', KEYS[3]), meta[2], ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
  return 0
end
return leave(KEYS[1], ARGV[1], ARGV[2])
"""
)

# ARGV: digest to spare or "", new epoch, how long it lives at least, "1" to be told who was there. What was revoked before is
# not spared.
REVOKE: Final = Script(
    _COMMON
    + """
local spared = ARGV[1]
local life, longest = 0, 0
if spared ~= '' then
  local meta = redis.call('HMGET', KEYS[1], '#u', '#e', '#a')
  life = redis.call('PTTL', KEYS[1])
  longest = math.max(life, (tonumber(meta[3] or 0) or 0) - now)
  if not meta[1] or meta[1] == '' or not alive(redis.call('GET', KEYS[3]), meta[2], spared) then spared = '' end
end
local members = ARGV[4] == '1' and redis.call('ZRANGE', KEYS[2], 0, -1) or {}
local kept = math.max(tonumber(ARGV[3]), redis.call('PTTL', KEYS[3]))
redis.call('SET', KEYS[3], spared == '' and ARGV[2] or (ARGV[2] .. '.' .. spared), 'PX', number(kept))
redis.call('UNLINK', KEYS[2])
if spared ~= '' then
  redis.call('ZADD', KEYS[2], number(now + life), spared)
  redis.call('PEXPIRE', KEYS[2], number(longest))
end
return {spared == '' and 0 or 1, members}
"""
)
