-- Take the next webhook that is due; it is due again after so long unless it is settled.
local number = due(DELIVERIES, 1)[1]
if not number then
  return false
end
insist()
redis.call('ZADD', DELIVERIES, now + given.again_after_seconds, number)
local attempt = redis.call('HINCRBY', key('request', number), 'num_deliveries', 1)
local told = redis.call('HMGET', key('request', number), 'webhook_url', 'traceparent')
return {view(number, true), told[1], attempt, told[2] or ''}
