-- Take the next webhook that is due, of the key whose turn it is; it is due again after so long unless it is
-- settled.

local function next_key()
  local but_of, num_passed = read_keys(given.but_of)
  for _, key_id in ipairs(due(TURNS, num_passed + 1)) do
    if not but_of[key_id] then
      return key_id
    end
  end
end

local key_id = next_key()
if not key_id then
  return false
end
insist()
local number = due(key('deliveries', key_id), 1)[1]
redis.call('ZADD', TURNS, now, key_id) -- behind all others that are due
owe(key_id, number, now + given.again_after_seconds)
redis.call('HSET', key('request', number), 'delivery_holder', given.holder)
local attempt = redis.call('HINCRBY', key('request', number), 'num_deliveries', 1)
local told = redis.call('HMGET', key('request', number), 'webhook_url', 'traceparent')
return {view(number), told[1], attempt, told[2] or ''}
