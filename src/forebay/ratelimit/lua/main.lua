-- What was not quick: each record by the laws of its policies.
local charges = mode == 'hit' or mode == 'charge'
local named = { g = 'gcra', f = 'fixed_window', w = 'sliding_window', l = 'sliding_log' }

local function held(k)
  local text = fresh[KEYS[k]]
  if text == nil then return stored[k] end
  return text
end

-- One policy, judged and not yet charged.
local function judged(p, k)
  local letter = string.sub(letters, p, p)
  local lower = string.lower(letter)
  local policy = { key = KEYS[k], own = KEYS[k + 1] ~= KEYS[k] and stored[k + 1], shadow = letter ~= lower, law = laws[named[lower]], frees = {} }
  local cost, mark = ARGV[2 * p + 1], nil
  if mode == 'refund' then cost, mark = string.match(cost, '^(%d+):(%d+)$') end
  policy.cost = tonumber(cost)
  policy.rates = policy.own and rates_in(policy.own)
  if policy.own and not policy.rates then policy.own = '!' end
  policy.rates = policy.rates or rates_in(ARGV[2 * p + 2])
  policy.state = policy.law.read(policy.key, held(k), policy.rates)
  local reply = { 1, policy.own, now }
  policy.reply = reply
  if mode == 'refund' then
    policy.law.refund(policy.state, policy.rates, policy.cost, tonumber(mark))
    return policy
  end
  for i, rate in ipairs(policy.rates) do
    local ok, left, retry, free, free_after = policy.law.judge(policy.state, i, rate, min(policy.cost, rate.burst))
    reply[3 * i + 1], reply[3 * i + 2], reply[3 * i + 3], policy.frees[i] = left, retry, free, free_after
    if policy.cost > rate.burst then reply[1] = -1 elseif not ok and reply[1] == 1 then reply[1] = 0 end
  end
  return policy
end

local function settled(policy, passes)
  local reply = policy.reply
  if charges and passes and reply[1] == 1 then
    policy.law.write(policy.key, policy.state, policy.rates, policy.cost)
    for i, free in ipairs(policy.frees) do reply[3 * i + 1], reply[3 * i + 3] = reply[3 * i + 1] - policy.cost, free end
  elseif policy.law and (mode == 'refund' or (charges and policy.state.touched)) then
    policy.law.write(policy.key, policy.state, policy.rates)
  end
  return reply
end

for _, k in ipairs(slow) do
  local found, passes = {}, true
  for p = 1, #letters do
    local well, policy = pcall(judged, p, k + 2 * p - 2)  -- what is the matter with one key is not the others'
    if not well then policy = { reply = { -2, type(policy) == 'table' and policy.err or tostring(policy), now } } end
    found[p] = policy
    if found[p].reply[1] < 0 or (found[p].reply[1] == 0 and not found[p].shadow) then passes = false end
  end
  local reply = {}
  for p, policy in ipairs(found) do reply[p] = settled(policy, passes) end
  replies[(k - 1) / width + 1] = #letters == 1 and reply[1] or reply
end
return replies
