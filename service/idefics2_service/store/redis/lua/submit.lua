-- Take a request, or return the one of the same name and content.
local known = find()
if known then
  local is_same = redis.call('HGET', key('request', known), 'fingerprint') == given.fingerprint
  return is_same and {'TAKEN', view(known)} or {'OTHER_CONTENT'}
end
if not given.payload then
  return {'PAYLOAD_TOO_LARGE', given.num_payload_bytes}
end

if given.max_queued_of_key then
  local num_own = redis.call('ZCARD', key('of_key', given.key_id, 'QUEUED'))
    + redis.call('ZCARD', key('of_key', given.key_id, 'RUNNING'))
  if num_own >= tonumber(given.max_queued_of_key) then
    return {'QUEUE_QUOTA_EXCEEDED'}
  end
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

local number = string.format('%016d', redis.call('HINCRBY', PROGRESS, 'last_number', 1))
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
return {'TAKEN', view(number)}
