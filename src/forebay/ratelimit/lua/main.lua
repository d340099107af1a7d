-- Decides about all policies, then charges all of them or none. A refused cost is never charged; in shadow a policy refuses nobody.
-- KEYS[n]: for each policy its state, and the key's own rates. ARGV: "hit", "peek" or "refund", then for each policy: law, "1" if it is
-- in shadow, cost, mark, and its rates. Reply for each: 1 (0: refused, -1: the cost is above the burst), mark, the key's own rates
-- ("!" if they cannot be read), and for each rate: units left, microseconds until it would pass, microseconds until all is free.
local mode = ARGV[1]
local policies, passes = {}, true
for p = 1, #KEYS / 2 do
  local at, key = 5 * p - 3, KEYS[2 * p - 1]
  local law, cost = laws[ARGV[at]], tonumber(ARGV[at + 2])
  local text, own
  if ARGV[at] == 'sliding_log' then
    own = redis.call('GET', KEYS[2 * p])
  else
    local both = redis.call('MGET', key, KEYS[2 * p])
    text, own = both[1], both[2]
  end
  local rates = own and rates_in(own)
  if own and not rates then own = '!' end
  rates = rates or rates_in(ARGV[at + 4])
  local state = law.read(key, text, rates)
  local policy = { law = law, key = key, cost = cost, rates = rates, state = state, own = own, passes = 1, found = {} }
  policies[p] = policy
  if mode == 'refund' then
    law.refund(state, rates, cost, tonumber(ARGV[at + 3]))
  else
    for i, rate in ipairs(rates) do
      local found = { law.judge(state, i, rate, cost) }
      policy.found[i] = found
      if cost > rate.burst then policy.passes = -1 elseif not found[1] and policy.passes == 1 then policy.passes = 0 end
    end
    if policy.passes ~= 1 and (ARGV[at + 1] ~= '1' or policy.passes == -1) then passes = false end
  end
end
local replies = {}
for p, policy in ipairs(policies) do
  local charged = mode == 'hit' and passes and policy.passes == 1
  if charged then
    policy.law.write(policy.key, policy.state, policy.rates, policy.cost)
  elseif mode == 'refund' or (mode == 'hit' and policy.state.touched) then
    policy.law.write(policy.key, policy.state, policy.rates)
  end
  local reply = { policy.passes, policy.state.mark or now, policy.own }
  for i, found in ipairs(policy.found) do
    local n = 3 * i
    reply[n + 1] = charged and found[2] - policy.cost or found[2]
    reply[n + 2] = found[3]
    reply[n + 3] = charged and found[5] or found[4]
  end
  replies[p] = reply
end
return replies
