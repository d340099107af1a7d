-- So many at once: a sorted set of tokens by the time at which their lease ends. KEYS[1]: slots, KEYS[2]: a text that changes with every slot
-- that is given back, for those who wait. ARGV: "take", "renew", "give" or "look"; token; how many there are; lease in microseconds.
-- Reply: 1 if the token has a slot, how many are left, microseconds until the next lease ends, and the text. A member is "token:lease".
local mode, most, lease = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local mine = ARGV[2] .. ':' .. ARGV[4]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', number(now))
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[1] and tonumber(last[2]) > now + tonumber(string.match(last[1], ':(%d+)$') or 0) then  -- the clock was set back
  local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  for at = 1, #all, 2 do
    local ends = now + tonumber(string.match(all[at], ':(%d+)$') or 0)
    if tonumber(all[at + 1]) > ends then redis.call('ZADD', KEYS[1], number(ends), all[at]) end
  end
end
local function outlive(key, us)
  local left = upward(us, 1000)
  if redis.call('PTTL', key) < left then redis.call('PEXPIRE', key, number(left)) end
end
local holds = redis.call('ZSCORE', KEYS[1], mine)
if mode == 'give' then
  if redis.call('ZREM', KEYS[1], mine) == 1 then
    redis.call('SET', KEYS[2], ARGV[2], 'PX', number(upward(lease, 1000)))
  end
  holds = false
elseif mode == 'take' or mode == 'renew' then
  if holds or (mode == 'take' and redis.call('ZCARD', KEYS[1]) < most) then
    redis.call('ZADD', KEYS[1], number(now + lease), mine)
    outlive(KEYS[1], lease)
    holds = true
  end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local next_end = first[2] and first[2] - now or 0
return { holds and 1 or 0, max(0, most - redis.call('ZCARD', KEYS[1])), next_end, redis.call('GET', KEYS[2]) }
