-- Take a request, or return the one of the same name and content.
local known = find()
if known then
  local is_same = redis.call('HGET', key('request', known), 'fingerprint') == given.fingerprint
  return is_same and {'TAKEN', view(known)} or {'OTHER_CONTENT'}
end
if not given.payload then
  return {'PAYLOAD_TOO_LARGE', given.num_payload_bytes}
end

local MAX_LOST = 100 -- that one call sheds of a key's, for everybody else waits for it
local lost = {}

-- Count the key's own in a state, but for those that are lost: while others end, they become its oldest.
local function count_own(state)
  local own = key('of_key', given.key_id, state)
  local num_lost = 0
  local oldest = redis.call('ZRANGE', own, 0, 0)[1]
  while oldest and num_lost < MAX_LOST and not is_known(oldest) do
    lost[#lost + 1] = oldest
    num_lost = num_lost + 1
    oldest = redis.call('ZRANGE', own, num_lost, num_lost)[1]
  end
  return redis.call('ZCARD', own) - num_lost
end

local most = tonumber(given.max_queued_of_key)
if most and count_own('QUEUED') + count_own('RUNNING') >= most then
  shed(given.key_id, lost)
  return {'QUEUE_QUOTA_EXCEEDED'}
end

local tag = make_tag(given)
local num_waiting = redis.call('ZCARD', WAITING)
if num_waiting >= tonumber(given.max_queued) then
  return {'QUEUE_FULL', num_waiting}
end
local num_before = redis.call('ZCOUNT', WAITING, '-inf', tag)
if given.max_queue_length and num_before > tonumber(given.max_queue_length) then
  return {'QUEUE_TOO_LONG', num_before}
end

-- Draw a number that was never drawn: where the server has no last one, it may have lost that alone, and the
-- clock is beyond it.
local function draw_number()
  local last = redis.call('HGET', PROGRESS, 'last_number') or math.floor(1000 * now)
  local number = string.format('%016d', last + 1)
  redis.call('HSET', PROGRESS, 'last_number', number)
  return number
end

local number = draw_number()
local request = {number = number}
save(request, {
  key_id = given.key_id,
  request_id = given.request_id,
  fingerprint = given.fingerprint,
  state = 'QUEUED',
  priority = given.priority,
  tag = tag,
  max_new_tokens = given.max_new_tokens,
  webhook_url = given.webhook_url,
  traceparent = given.traceparent,
  created_at = now,
  end_by = now + given.time_budget_seconds,
  start_by = given.start_timeout_seconds and now + given.start_timeout_seconds,
  keep_seconds = given.keep_at_most_seconds,
  is_begun_once = given.is_begun_once,
  attempt = 0,
  num_losses = 0,
  num_generated_tokens = 0,
  last_sequence = 0,
})
redis.call('SET', key('number', given.key_id .. '/' .. given.request_id), number)
redis.call('SET', key('payload', number), given.payload)
redis.call('ZADD', key('of_key', given.key_id), number, number)
redis.call('ZADD', key('of_key', given.key_id, 'QUEUED'), number, number)
enqueue(request)
shed(given.key_id, lost) -- last of all: no write may come before the first that takes memory, see `insist`
return {'TAKEN', view(number)}
