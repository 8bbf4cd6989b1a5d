-- Take back what dead workers held, end what waited too long, forget what is over. Return how many wait again,
-- what ended, and the numbers of those that are lost.
local AT_ONCE = 200 -- of each, for everybody else waits for it
local num_requeued, ended, lost = 0, {}, {}

local function note(request, how)
  ended[#ended + 1] = describe(request, how)
end

local function load_due(set)
  local requests, unknown = {}, {}
  for _, number in ipairs(due(set, AT_ONCE)) do
    local request = load(number)
    if request.state then
      requests[#requests + 1] = request
    else
      unknown[#unknown + 1], lost[#lost + 1] = number, number
    end
  end
  drop(unknown)
  return requests
end

-- Let webhooks of the next part of DELIVERIES be found again where the server has lost what is due of their key,
-- or whose turn it is: who tells of them looks nowhere else.
local function find_deliveries()
  local begun_at = redis.call('HGET', PROGRESS, 'deliveries_cursor') or '0'
  local cursor, flat = unpack(redis.call('ZSCAN', DELIVERIES, begun_at, 'COUNT', AT_ONCE))
  if cursor ~= begun_at then
    redis.call('HSET', PROGRESS, 'deliveries_cursor', cursor)
  end
  local unknown = {}
  for i = 1, #flat, 2 do
    local number, due_at = flat[i], flat[i + 1]
    local key_id = redis.call('HGET', key('request', number), 'key_id')
    if not key_id then
      unknown[#unknown + 1], lost[#lost + 1] = number, number
    elseif not is_in_turn(key_id, number) then
      owe(key_id, number, due_at)
      tell('deliveries')
    end
  end
  drop(unknown)
end

insist()
local told = told_before()
if told then
  return told
end
for _, request in ipairs(load_due(LEASED)) do
  local has_waited = (request.stage or '') == '' or request.stage == 'QUEUED'
  local is_silent = has_waited and tonumber(request.attempt) < tonumber(given.first_silent_loss)
  local how = hand_back(request, request.is_begun_once == '1' or not is_silent)
  if how then
    note(request, how)
  else
    num_requeued = num_requeued + 1
  end
end
for _, set in ipairs({START_BY, END_BY}) do
  for _, request in ipairs(load_due(set)) do
    local how = overdue(request)
    finish(request, {how}, 'FAILED')
    note(request, how)
  end
end
for _, request in ipairs(load_due(EXPIRING)) do
  local told_at = redis.call('ZSCORE', DELIVERIES, request.number)
  if told_at then
    redis.call('ZADD', EXPIRING, math.max(told_at, now + given.lease_seconds), request.number)
  else
    forget(request)
  end
end
find_deliveries()
told = {num_requeued, ended, lost}
if num_requeued + #ended + #lost > 0 then
  note_told(told)
end
return told
