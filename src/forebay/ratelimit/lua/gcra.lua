-- GCRA (ITU-T I.371): one time, at which everything used is free again. Each unit puts it off by period / limit, which is kept exactly:
-- whole microseconds, and what is left over in parts of one limit-th. State: "period:limit:time:parts" for each rate.
function makers.gcra()
  local law = {}

  local function times(rate, n)
    local part = n * rate.rest
    local more = floor(part / rate.limit)
    return n * rate.whole + more, part - more * rate.limit
  end

  -- How many units fit into a time.
  local function fitting(rate, whole, part)
    local n = floor((whole * rate.limit + part) / rate.period)
    while true do  -- that may be off by one where the product is above 2^53
      local w, p = times(rate, n)
      if n > 0 and (w > whole or (w == whole and p > part)) then n = n - 1
      else
        w, p = times(rate, n + 1)
        if w > whole or (w == whole and p > part) then return n end
        n = n + 1
      end
    end
  end

  -- A time of one limit as a time of another, for as many units: both are the same number of parts. In two steps, for that number may be
  -- more than a double holds.
  local function paced(whole, part, from, to)
    local high = floor(whole / 33554432)
    local upper = high * from
    local first = floor(upper / to)
    local rest = (upper - first * to) * 33554432 + (whole - high * 33554432) * from + part
    local second = floor(rest / to)
    return first * 33554432 + second, rest - second * to
  end

  function law.read(_, text, rates)
    local found = {}
    if text then
      for period, limit, whole, part in string.gmatch(text, '(%d+):(%d+):(%d+):(%d+)') do
        found[#found + 1] = { tonumber(period), tonumber(limit), tonumber(whole), tonumber(part) }
      end
    end
    local state = { others = {}, touched = false }
    for i, rate in ipairs(rates) do
      rate.whole = floor(rate.period / rate.limit)
      rate.rest = rate.period - rate.whole * rate.limit
      rate.most, rate.most_part = times(rate, rate.burst)
      state[i] = { 0, 0 }
    end
    for _, one in ipairs(found) do
      local known = false
      for i, rate in ipairs(rates) do
        if one[1] == rate.period then
          known = true
          local whole, part = one[3] - now, one[4]
          if whole < 0 then whole, part = 0, 0 end
          if one[2] ~= rate.limit then  -- as many units as before, at the new pace
            whole, part = paced(whole, part, one[2], rate.limit)
            state.touched = true
          end
          if whole > rate.most or (whole == rate.most and part > rate.most_part) then
            whole, part = rate.most, rate.most_part
            state.touched = true
          end
          state[i] = { whole, part }
        end
      end
      if not known and one[3] > now and #state.others < 8 then state.others[#state.others + 1] = one end
    end
    return state
  end

  -- ok, units left, microseconds until it would be ok, microseconds until all is free: without the cost, and with it.
  function law.judge(state, i, rate, cost)
    local used = state[i]
    local more, more_part = times(rate, cost)
    local whole, part = used[1] + more, used[2] + more_part
    if part >= rate.limit then whole, part = whole + 1, part - rate.limit end
    state[i].next = { whole, part }
    local left, left_part = rate.most - used[1], rate.most_part - used[2]
    if left_part < 0 then left, left_part = left - 1, left_part + rate.limit end
    local remaining = fitting(rate, left, left_part)
    local over, over_part = whole - rate.most, part - rate.most_part
    local retry = 0
    if over > 0 or (over == 0 and over_part > 0) then retry = over + (over_part > 0 and 1 or 0) end
    return retry == 0, remaining, retry, used[1] + (used[2] > 0 and 1 or 0), whole + (part > 0 and 1 or 0)
  end

  function law.write(key, state, rates, charged)
    local texts, longest = {}, 0
    for i, rate in ipairs(rates) do
      local used = charged and state[i].next or state[i]
      if used[1] > 0 or used[2] > 0 then
        texts[#texts + 1] = number(rate.period) .. ':' .. number(rate.limit) .. ':' .. number(now + used[1]) .. ':' .. number(used[2])
        longest = max(longest, used[1] + 1)
      end
    end
    for _, one in ipairs(state.others) do
      texts[#texts + 1] = number(one[1]) .. ':' .. number(one[2]) .. ':' .. number(one[3]) .. ':' .. number(one[4])
      longest = max(longest, one[3] - now)
    end
    store(key, texts, longest)
  end

  -- What was charged at *mark* has been running out since: only what must be left of it is given back.
  function law.refund(state, rates, cost, mark)
    for i, rate in ipairs(rates) do
      local less, less_part = times(rate, cost)
      less = less - max(0, now - mark)
      if less < 0 then less, less_part = 0, 0 end
      local whole, part = state[i][1] - less, state[i][2] - less_part
      if part < 0 then whole, part = whole - 1, part + rate.limit end
      if whole < 0 then whole, part = 0, 0 end
      state[i] = { whole, part }
    end
  end

  return law
end
