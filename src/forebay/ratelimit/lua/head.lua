-- What every law counts with. A clock of the server that was set back makes no state worse than "all is used up".
local function number(n) return string.format('%.0f', n) end
local function upward(n, by) return floor((n + by - 1) / by) end
-- A law is made when it is first asked for: most calls need one.
local makers = {}
local laws = setmetatable({}, { __index = function(made, name)
  made[name] = makers[name]()
  return made[name]
end })

-- One text for all rates of a policy, for as long as the longest of them means anything.
local function store(key, texts, longest)
  fresh[key] = longest > 0 and table.concat(texts, ',')
  if longest == 0 then return redis.call('UNLINK', key) end
  redis.call('SET', key, fresh[key], 'PX', number(upward(longest, 1000)))
end

-- The same rules as those of Rate: what cannot be counted with is no rate.
local function rates_in(text)
  local rates = {}
  for one in string.gmatch(text .. ',', '([^,]*),') do
    local limit, period, burst = string.match(one, '^(%d+):(%d+):(%d+)$')
    if not limit then return nil end
    limit, period, burst = tonumber(limit), tonumber(period), tonumber(burst)
    if limit < 1 or burst < 1 or period < 1000 or period > 31622400000000 then return nil end
    if limit * burst >= 9007199254740992 or floor(burst * period / limit) > 316224000000000 then return nil end
    rates[#rates + 1] = { limit = limit, period = period, burst = burst }
  end
  return rates
end
