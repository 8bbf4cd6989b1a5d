-- Take the next webhook that is due, of the key whose turn it is; it is due again after so long unless it is
-- settled. Return the number of the request alone where that is lost.

local function next_due()
  local but_of, num_passed = read_keys(given.but_of)
  for _, key_id in ipairs(due(TURNS, num_passed + 1)) do
    local number = due(key('deliveries', key_id), 1)[1]
    if not number then -- all that the key had due is lost
      redis.call('ZREM', TURNS, key_id)
      return next_due()
    elseif not but_of[key_id] then
      return key_id, number
    end
  end
end

local key_id, number = next_due()
if not key_id then
  return false
end
insist()
if not is_known(number) then
  drop({number})
  return number
end
redis.call('ZADD', TURNS, now, key_id) -- behind all others that are due
owe(key_id, number, now + given.again_after_seconds)
redis.call('HSET', key('request', number), 'delivery_holder', given.holder)
local attempt = redis.call('HINCRBY', key('request', number), 'num_deliveries', 1)
local told = redis.call('HMGET', key('request', number), 'webhook_url', 'traceparent')
return {view(number), told[1], attempt, told[2]}
