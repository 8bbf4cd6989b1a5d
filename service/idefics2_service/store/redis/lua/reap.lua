-- Take back what dead workers held, end what waited too long, forget what is over.
local AT_ONCE = 200 -- of each, for everybody else waits for it
local num_requeued, ended = 0, {}

local function note(request, how)
  ended[#ended + 1] = describe(request, how)
end

insist()
for _, number in ipairs(due(LEASED, AT_ONCE)) do
  local request = load(number)
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
  for _, number in ipairs(due(set, AT_ONCE)) do
    local request = load(number)
    local how = overdue(request)
    finish(request, {how}, 'FAILED')
    note(request, how)
  end
end
for _, number in ipairs(due(EXPIRING, AT_ONCE)) do
  local told_at = redis.call('ZSCORE', DELIVERIES, number)
  if told_at then
    redis.call('ZADD', EXPIRING, math.max(told_at, now + given.lease_seconds), number)
  else
    forget(load(number))
  end
end
return {num_requeued, ended}
