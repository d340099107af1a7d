local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local floor, max, min = math.floor, math.max, math.min
local fresh = {}  -- what keys hold since this script wrote them
