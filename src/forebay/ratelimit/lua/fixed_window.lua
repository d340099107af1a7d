-- Fixed windows, which begin at multiples of the period since 1970. State: "period:begin:count" for each rate.
function makers.fixed_window()
  local law = {}

  function law.read(_, text, rates)
    local state = { others = {}, touched = false }
    for i, rate in ipairs(rates) do state[i] = { now - now % rate.period, 0 } end
    for period, begin, count in string.gmatch(text or '', '(%d+):(%d+):(%d+)') do
      period, begin, count = tonumber(period), tonumber(begin), tonumber(count)
      local known = false
      for i, rate in ipairs(rates) do
        if period == rate.period then
          known = true
          if begin == state[i][1] then
            state[i][2] = count
          elseif begin > state[i][1] then  -- the clock was set back
            state[i][2] = min(count, rate.limit)
            state.touched = true
          end
        end
      end
      if not known and begin + period > now and #state.others < 8 then state.others[#state.others + 1] = { period, begin, count } end
    end
    return state
  end

  function law.judge(state, i, rate, cost)
    local begin, count = state[i][1], state[i][2]
    local left = begin + rate.period - now
    local ok = count + cost <= rate.limit
    return ok, max(0, rate.limit - count), ok and 0 or left, count > 0 and left or 0, left
  end

  function law.write(key, state, rates, charged)
    local texts, longest = {}, 0
    for i, rate in ipairs(rates) do
      local count = state[i][2] + (charged or 0)
      if count > 0 then
        texts[#texts + 1] = number(rate.period) .. ':' .. number(state[i][1]) .. ':' .. number(count)
        longest = max(longest, state[i][1] + rate.period - now)
      end
    end
    for _, one in ipairs(state.others) do
      texts[#texts + 1] = number(one[1]) .. ':' .. number(one[2]) .. ':' .. number(one[3])
      longest = max(longest, one[1] + one[2] - now)
    end
    store(key, texts, longest)
  end

  -- *mark* is when it was charged: a window that is over has nothing to give back.
  function law.refund(state, rates, cost, mark)
    for i in ipairs(rates) do
      if mark >= state[i][1] then state[i][2] = max(0, state[i][2] - cost) end
    end
  end

  return law
end
