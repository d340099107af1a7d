-- Decides about any number of records, each for itself: what callers ask who ask the same together. A record is about one or several
-- policies, all of which are charged, or none. A refused cost is never charged; in shadow a policy refuses nobody.
-- KEYS[n]: for each record and policy its state, and the key's own rates. ARGV[1]: "hit", "charge", "peek" or "refund", ARGV[2]: a letter
-- for the law of each policy (a capital one in shadow), then for each policy the cost and its rates; to refund the cost is "cost:mark".
-- Behind that, for hits of one policy of one rate that are as below, five words more: microseconds for each unit, for the burst and for the
-- cost; with what its state begins; and the pattern of all of it.
-- Reply for each policy: 1 (0: refused, -1: the cost is above the burst, -2: an error, and its text), the key's own rates ("!" if they cannot be read), when it was
-- charged, which is the mark, and for each rate: units left, microseconds until it would pass, microseconds until all is free. A record of
-- one policy is answered by that, of several by a list. A hit that was charged by the policy's own rates, one or two, may be answered by
-- nothing but the units left and the microseconds until all is free, for each rate; "charge" is the same, and always answered in full.
local floor, max, min = math.floor, math.max, math.min
local stored = {}
for first = 1, #KEYS, 1000 do  -- what a call can be given has a limit
  local some = redis.call('MGET', unpack(KEYS, first, min(first + 999, #KEYS)))
  if #KEYS <= 1000 then stored = some else for i = 1, #some do stored[first + i - 1] = some[i] end end
end
local fresh = {}  -- what keys hold since this script wrote them
local replies, slow = {}, {}

local function put(key, text, us)
  fresh[key] = text
  redis.call('SET', key, text, 'PX', floor((us + 999) / 1000))
end

-- What is most common needs no more than this: hits of GCRA, whole microseconds for each unit, no rates of the key's own, and a state that
-- was written by the same rates. All others are left to the laws. Each way through is written out: a table for each number would cost more.
if ARGV[5] and #ARGV == 9 then
  local each, most, need = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  for k = 1, #KEYS, 2 do
    local key, used = KEYS[k], 0
    local text = fresh[key] or stored[k]
    if text then
      used = string.match(text, ARGV[9])
      used = used and max(0, used - now)
    end
    if not used or used > most or stored[k + 1] then
      slow[#slow + 1] = k
    elseif used + need > most then
      replies[(k + 1) / 2] = { 0, false, now, floor((most - used) / each), used + need - most, used }
    else
      used = used + need
      put(key, ARGV[8] .. string.format('%.0f:0', now + used), used)
      replies[(k + 1) / 2] = { floor((most - used) / each), used }
    end
  end
  if #slow == 0 then return replies end
end
local mode, letters = ARGV[1], ARGV[2]
local width = 2 * #letters

local quick = #slow == 0 and mode == 'hit' and not string.find(letters, '[^g]')
local rates, patterns = {}, {}
for p = 1, quick and #letters or 0 do
  local cost, pattern = tonumber(ARGV[2 * p + 1]), {}
  for limit, period, burst in string.gmatch(ARGV[2 * p + 2], '(%d+):(%d+):(%d+)') do
    local each, head = period / limit, period .. ':' .. limit .. ':'
    quick = quick and each >= 1 and each % 1 == 0 and cost <= burst + 0
    pattern[#pattern + 1] = head .. '(%d+):0'
    rates[#rates + 1] = { each = each, most = burst * each, need = cost * each, head = head, policy = p }
  end
  patterns[p] = '^' .. table.concat(pattern, ',') .. '$'
end

local function two()  -- one policy of two rates, or two policies of one rate each
  local a, b = rates[1], rates[2]
  local apart = b.policy == 2
  local step = apart and 4 or 2
  for k = 1, #KEYS, step do
    local key, other = KEYS[k], KEYS[k + 2]
    local text, ua, ub = fresh[key] or stored[k], 0, 0
    local own = stored[k + 1]
    if text then ua, ub = string.match(text, patterns[1]) end
    if apart then
      own, ub = own or stored[k + 3] or key == other, 0
      text = fresh[other] or stored[k + 2]
      if text then ub = string.match(text, patterns[2]) end
    end
    ua, ub = ua and max(0, ua - now), ub and max(0, ub - now)
    if own or not ua or not ub or ua > a.most or ub > b.most then
      slow[#slow + 1] = k
    else
      local na, nb, reply = ua + a.need, ub + b.need, nil
      if na <= a.most and nb <= b.most then
        local first, second = a.head .. string.format('%.0f:0', now + na), b.head .. string.format('%.0f:0', now + nb)
        if apart then
          put(key, first, na)
          put(other, second, nb)
          reply = { { floor((a.most - na) / a.each), na }, { floor((b.most - nb) / b.each), nb } }
        else
          put(key, first .. ',' .. second, max(na, nb))
          reply = { floor((a.most - na) / a.each), na, floor((b.most - nb) / b.each), nb }
        end
      else
        local la, lb = floor((a.most - ua) / a.each), floor((b.most - ub) / b.each)
        local ra, rb = max(0, na - a.most), max(0, nb - b.most)
        if apart then
          reply = { { ra > 0 and 0 or 1, false, now, la, ra, ua }, { rb > 0 and 0 or 1, false, now, lb, rb, ub } }
        else
          reply = { 0, false, now, la, ra, ua, lb, rb, ub }
        end
      end
      replies[(k - 1) / step + 1] = reply
    end
  end
end

if quick and #rates == 2 then
  two()
elseif #slow == 0 then
  for k = 1, #KEYS, width do slow[#slow + 1] = k end
end
if #slow == 0 then return replies end
