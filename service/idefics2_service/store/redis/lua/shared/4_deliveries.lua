-- Who is to be told of ends, and whose turn it is.

-- Tell whether a webhook is found when its time comes.
local function is_in_turn(key_id, number)
  return redis.call('ZSCORE', TURNS, key_id) and redis.call('ZSCORE', key('deliveries', key_id), number)
end

-- Let a webhook be due, or be over where `due_at` is nothing. The turn of its key comes when the first of its
-- webhooks is due, but not before its last turn: so those who have many due let the others pass each time.
local function owe(key_id, number, due_at)
  local own = key('deliveries', key_id)
  for _, set in ipairs({DELIVERIES, own}) do
    if due_at then
      redis.call('ZADD', set, due_at, number)
    else
      redis.call('ZREM', set, number)
    end
  end
  local first_due_at = redis.call('ZRANGE', own, 0, 0, 'WITHSCORES')[2]
  if first_due_at then
    local turn = math.min(now, redis.call('ZSCORE', TURNS, key_id) or 0)
    redis.call('ZADD', TURNS, math.max(turn, first_due_at), key_id)
  else
    redis.call('ZREM', TURNS, key_id)
  end
end
