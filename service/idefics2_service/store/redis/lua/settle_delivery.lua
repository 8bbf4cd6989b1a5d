-- Forget a delivery, after which its request may be forgotten, or let it be due after a while.
-- Who settles late may find neither, or that another attempt has begun.
insist()
local number = find()
local request = number and load(number)
if not request or request.delivery_holder ~= given.holder or not redis.call('ZSCORE', DELIVERIES, number) then
  return
end
if given.retry_after_seconds then
  owe(request.key_id, number, now + given.retry_after_seconds)
else
  owe(request.key_id, number, nil)
  redis.call('ZADD', EXPIRING, 'XX', request.expires_at, number)
end
