-- A log of every hit: a sorted set by time, whose members are "sum:cost", the sum of all costs up to there. So what was used in a window
-- is the difference of two sums, and no entry is looked at for each unit of cost.
function makers.sliding_log()
  local law = {}

  local function parts(member)
    local sum, cost = string.match(member, '^(%d+):(%d+)$')
    return tonumber(sum or 0), tonumber(cost or 0)
  end
  local function member(sum, cost) return string.format('%016.0f:%.0f', sum, cost) end
  local function after(key, at)
    local found = redis.call('ZRANGE', key, '(' .. number(at), '+inf', 'BYSCORE', 'LIMIT', 0, 1)
    return found[1]
  end

  function law.read(key, _, rates)
    local state = { key = key, total = 0, touched = false, longest = rates[#rates].period }
    local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
    if last[1] then
      state.total, state.last = parts(last[1]), tonumber(last[2])
      if state.last > now then  -- the clock was set back: all that was in sight happens now
        local first = after(key, state.last - state.longest)
        local sum, cost = parts(first)
        state.all = state.total - sum + cost
        state.touched = true
      end
    end
    return state
  end

  function law.judge(state, i, rate, cost)
    local used, first = 0, nil
    if state.all then
      used = min(state.all, rate.limit)
    elseif state.last then
      first = after(state.key, now - rate.period)
      if first then
        local sum, own = parts(first)
        used = max(0, state.total - sum + own)
      end
    end
    local reset = used > 0 and (state.all and rate.period or state.last + rate.period - now) or 0
    if used + cost <= rate.limit then return true, rate.limit - used, 0, reset, rate.period end
    local retry = rate.period
    if not state.all then  -- find the hit at whose end there is room: the first whose sum is large enough
      local wanted = state.total + cost - rate.limit
      local low, high = redis.call('ZRANK', state.key, first), redis.call('ZCARD', state.key) - 1
      while low < high do
        local middle = floor((low + high) / 2)
        if parts(redis.call('ZRANGE', state.key, middle, middle)[1]) >= wanted then high = middle else low = middle + 1 end
      end
      retry = redis.call('ZRANGE', state.key, low, low, 'WITHSCORES')[2] + rate.period - now
    end
    return false, max(0, rate.limit - used), retry, reset, rate.period
  end

  function law.write(key, state, _, charged)
    if state.all then
      local used = min(state.all, 4503599627370496)
      redis.call('UNLINK', key)
      redis.call('ZADD', key, number(now), member(used, used))
      state.total, state.all = used, nil
    elseif redis.call('PTTL', key) <= upward(state.longest, 1000) then  -- else somebody looks further back
      redis.call('ZREMRANGEBYSCORE', key, '-inf', number(now - state.longest))
      if redis.call('EXISTS', key) == 0 then state.total = 0 end
    end
    if charged then
      state.total = state.total + charged
      redis.call('ZADD', key, number(now), member(state.total, charged))
    end
    local left = upward(state.longest, 1000)
    if redis.call('PTTL', key) < left then redis.call('PEXPIRE', key, number(left)) end
  end

  -- *mark* is when it was charged; of several of one moment and cost any will do. Those behind it lose its cost from their sums.
  function law.refund(state, _, cost, mark)
    local hit
    for _, each in ipairs(redis.call('ZRANGE', state.key, number(mark), number(mark), 'BYSCORE')) do
      local _, own = parts(each)
      if own == cost then hit = each end
    end
    if not hit then return end
    local behind = redis.call('ZRANGE', state.key, redis.call('ZRANK', state.key, hit) + 1, -1, 'WITHSCORES')
    redis.call('ZREM', state.key, hit)
    for at = 1, #behind, 2 do
      local sum, own = parts(behind[at])
      redis.call('ZREM', state.key, behind[at])
      redis.call('ZADD', state.key, behind[at + 1], member(sum - cost, own))
    end
    state.total = state.total - cost
  end

  return law
end
