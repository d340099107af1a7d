-- What every law counts with. A clock of the server that was set back makes no state worse than "all is used up".
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local floor, max, min = math.floor, math.max, math.min
local function number(n) return string.format('%.0f', n) end
local function upward(n, by) return floor((n + by - 1) / by) end
local laws = {}

-- One text for all rates of a policy, for as long as the longest of them means anything.
local function store(key, texts, longest)
  if longest == 0 then return redis.call('UNLINK', key) end
  redis.call('SET', key, table.concat(texts, ','), 'PX', number(upward(longest, 1000)))
end

local function rates_in(text)
  local rates = {}
  for limit, period, burst in string.gmatch(text, '(%d+):(%d+):(%d+)') do
    local rate = { limit = tonumber(limit), period = tonumber(period), burst = tonumber(burst) }
    if rate.limit < 1 or rate.period < 1000 or rate.burst < 1 then return nil end
    rates[#rates + 1] = rate
  end
  return rates[1] and rates
end
