-- Forget a delivery, or let it be due after a while; the request may be forgotten by now.
insist()
local number = find()
if number and given.retry_after_seconds then
  redis.call('ZADD', DELIVERIES, 'XX', now + given.retry_after_seconds, number)
elseif number then
  redis.call('ZREM', DELIVERIES, number)
end
