-- One request: where it stands and what happened to it.

-- Tell whether the server still has what is known of a request. One that may lose data may lose that alone.
local function is_known(number)
  return redis.call('HEXISTS', key('request', number), 'state') == 1
end

local function find()
  local number = redis.call('GET', key('number', given.key_id .. '/' .. given.request_id))
  return number and is_known(number) and number
end

local function load(number)
  local request, flat = {number = number}, redis.call('HGETALL', key('request', number))
  for i = 1, #flat, 2 do
    request[flat[i]] = flat[i + 1]
  end
  return request
end

local function save(request, changes)
  local flat = {}
  for field, value in pairs(changes) do
    request[field] = value
    flat[#flat + 1] = field
    flat[#flat + 1] = value
  end
  redis.call('HSET', key('request', request.number), unpack(flat))
end

-- Return the request that a worker's claim is of, or nothing once it is another's or at its end.
local function held()
  local number = find()
  local request = number and load(number)
  if
    request
    and request.state == 'RUNNING'
    and tonumber(request.attempt) == tonumber(given.attempt)
    and request.holder == given.holder
  then
    insist()
    return request
  end
end

local function lease(request)
  return request.is_cancelled == '1' and 'CANCELLED' or 'HELD'
end

-- Tell every replica; topics are named in store/interface.py.
local function tell(topic)
  redis.call('PUBLISH', key('signals'), topic)
end

local function tell_of(request, what)
  tell(what .. ' ' .. request.key_id .. '/' .. request.request_id)
end

local function enter(request, state)
  redis.call('ZREM', key('of_key', request.key_id, request.state), request.number)
  redis.call('ZADD', key('of_key', request.key_id, state), request.number, request.number)
  save(request, {state = state})
end

-- Return those of `events` that were not written before, by a call whose answer was lost. Fewer may be there than
-- the worker knows of, where the server forgot some; then only an end is written, and finish.lua knows it again.
local function unwritten(request)
  local rest = {}
  for i = math.max(0, request.last_sequence - given.after) + 1, #events do
    rest[#rest + 1] = events[i]
  end
  return rest
end

-- Tell whether the model has begun with a request that is in this stage.
local function is_begun(stage)
  return stage == 'PREFILL' or stage == 'DECODE'
end

-- Append to the history; with what `given` says that the events tell of the request.
local function write(request, happened)
  local last = tonumber(request.last_sequence)
  for _, data in ipairs(happened) do
    last = last + 1
    redis.call('XADD', key('events', request.number), last .. '-0', 'time', now, 'data', data)
  end
  save(request, {
    last_sequence = last,
    stage = given.stage,
    num_generated_tokens = given.num_generated_tokens,
  })
  if is_begun(given.stage) then
    request.start_by = nil -- it was begun in time, also if it is queued again
    redis.call('HDEL', key('request', request.number), 'start_by')
  end
  tell_of(request, 'grown')
end

-- Return what replies.py makes a record of.
local function view(number)
  return {
    number,
    redis.call('HGETALL', key('request', number)),
    redis.call('ZRANK', WAITING, number),
    redis.call('HGET', PROGRESS, 'interval'),
    redis.call('GET', key('end', number)),
  }
end
