-- Count what is there.
local oldest = redis.call('ZRANGE', OLDEST, 0, 0, 'WITHSCORES')[2] or now
return {
  string.format('%.6f', now),
  redis.call('ZCARD', WAITING),
  string.format('%.6f', seconds_since(oldest)),
  redis.call('ZCARD', DELIVERIES),
}
