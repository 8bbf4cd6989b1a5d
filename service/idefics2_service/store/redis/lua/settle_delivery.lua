-- Forget a delivery, after which its request may be forgotten, or let it be due after a while.
-- Who settles late may find neither.
insist()
local number = find()
if number and given.retry_after_seconds then
  redis.call('ZADD', DELIVERIES, 'XX', now + given.retry_after_seconds, number)
  redis.call('HSET', key('request', number), 'num_deliveries', given.num_deliveries)
elseif number then
  redis.call('ZREM', DELIVERIES, number)
  redis.call('ZADD', EXPIRING, 'XX', redis.call('HGET', key('request', number), 'expires_at'), number)
end
