-- A sliding window by two counters: what the window before counted weighs as much as of it is still in sight.
-- State: "period:begin:before:count" for each rate. limit * period is below 2^52, so that all products are exact.
function makers.sliding_window()
  local law = {}

  function law.read(_, text, rates)
    local state = { others = {}, touched = false }
    for i, rate in ipairs(rates) do state[i] = { now - now % rate.period, 0, 0 } end
    for period, begin, before, count in string.gmatch(text or '', '(%d+):(%d+):(%d+):(%d+)') do
      period, begin, before, count = tonumber(period), tonumber(begin), tonumber(before), tonumber(count)
      local known = false
      for i, rate in ipairs(rates) do
        if period == rate.period then
          known = true
          local current = state[i][1]
          if begin == current then
            state[i] = { current, before, count }
          elseif begin == current - period then
            state[i] = { current, count, 0 }
          elseif begin > current then  -- the clock was set back
            state[i] = { current, min(before, rate.limit), min(count, rate.limit) }
            state.touched = true
          end
        end
      end
      if not known and begin + 2 * period > now and #state.others < 8 then
        state.others[#state.others + 1] = { period, begin, before, count }
      end
    end
    return state
  end

  function law.judge(state, i, rate, cost)
    local period, limit = rate.period, rate.limit
    local before, count = state[i][2], state[i][3]
    local elapsed = now - state[i][1]
    local left = period - elapsed
    local free = (limit - count) * period - before * left
    local room = limit - count - cost
    local ok = free >= cost * period
    local retry = 0
    if not ok then
      if room >= 0 then
        retry = left - floor(room * period / before)
      else
        retry = left + (count > 0 and max(0, period - floor((limit - cost) * period / count)) or 0)
      end
    end
    return ok, max(0, floor(free / period)), retry, count > 0 and left + period or (before > 0 and left or 0), left + period
  end

  function law.write(key, state, rates, charged)
    local texts, longest = {}, 0
    for i, rate in ipairs(rates) do
      local begin, before, count = state[i][1], state[i][2], state[i][3] + (charged or 0)
      if before > 0 or count > 0 then
        texts[#texts + 1] = number(rate.period) .. ':' .. number(begin) .. ':' .. number(before) .. ':' .. number(count)
        longest = max(longest, begin + (count > 0 and 2 or 1) * rate.period - now)
      end
    end
    for _, one in ipairs(state.others) do
      texts[#texts + 1] = number(one[1]) .. ':' .. number(one[2]) .. ':' .. number(one[3]) .. ':' .. number(one[4])
      longest = max(longest, one[2] + 2 * one[1] - now)
    end
    store(key, texts, longest)
  end

  function law.refund(state, rates, cost, mark)
    for i, rate in ipairs(rates) do
      local begin = state[i][1]
      if mark >= begin then
        state[i][3] = max(0, state[i][3] - cost)
      elseif mark >= begin - rate.period then
        state[i][2] = max(0, state[i][2] - cost)
      end
    end
  end

  return law
end
