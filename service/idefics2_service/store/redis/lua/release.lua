-- Take back what a worker hands back.
local RELEASED_BY = 'released by ' -- before the holder of what has ended by being handed back
local LEASES = {
  [given.cancelled] = 'CANCELLED',
  [given.lost_once] = 'LOST_ONCE',
  [given.exhausted] = 'EXHAUSTED',
}

-- Return how the same worker has ended the request by this, by a call whose answer was lost.
local function ended_before()
  local number = find()
  local request = number and load(number)
  return request and request.holder == RELEASED_BY .. given.holder and redis.call('GET', key('end', number))
end

local request = held()
if not request then
  return LEASES[ended_before()] or 'LOST'
end
local how = hand_back(request, given.is_lost == '1')
if not how then
  return 'HELD'
end
save(request, {holder = RELEASED_BY .. given.holder})
return LEASES[how]
