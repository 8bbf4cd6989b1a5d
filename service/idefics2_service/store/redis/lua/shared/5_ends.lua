-- How requests end, and what comes before and after it.

-- Return why a request that waits is not to be begun any more, if so.
local function overdue(request)
  if request.start_by and now > tonumber(request.start_by) then
    return given.start_timeout
  elseif now > tonumber(request.end_by) then
    return given.deadline_exceeded
  end
end

-- Write the last events and let the request be kept for its time.
local function finish(request, happened, state)
  dequeue(request)
  redis.call('ZREM', LEASED, request.number)
  redis.call('UNLINK', key('payload', request.number))
  write(request, happened)
  enter(request, state)
  local expires_at = now + math.min(given.keep_seconds, request.keep_seconds or math.huge)
  save(request, {ended_at = now, expires_at = expires_at})
  redis.call('ZADD', EXPIRING, expires_at, request.number)
  redis.call('SET', key('end', request.number), happened[#happened])
  if request.webhook_url ~= '' then
    owe(request.key_id, request.number, now)
    tell('deliveries')
  end
end

-- Return what replies.py says of a request that ended without its worker's word.
local function describe(request, how)
  return {request.key_id, request.request_id, how, string.format('%.6f', seconds_since(request.created_at))}
end

local TOLD = key('told', given.call)

-- Return what a call was told whose answer was lost, and which is made again.
local function told_before()
  local told = redis.call('GET', TOLD)
  return told and cmsgpack.unpack(told)
end

-- Keep what the call is told, lest nobody hears of it.
local function note_told(told)
  redis.call('SET', TOLD, cmsgpack.pack(told), 'PX', KNOWN_MILLISECONDS)
end

-- Queue a request again under its old tag; return how it ended, if it did instead.
local function hand_back(request, is_lost)
  redis.call('HDEL', key('request', request.number), 'holder') -- whatever end it comes to is not its worker's
  local num_losses = request.num_losses + (is_lost and 1 or 0)
  if request.is_cancelled == '1' then
    finish(request, {given.cancelled}, 'CANCELLED')
    return given.cancelled
  elseif request.is_begun_once == '1' and (is_lost or is_begun(request.stage)) then
    finish(request, {given.lost_once}, 'FAILED')
    return given.lost_once
  elseif num_losses >= tonumber(given.max_losses) then
    finish(request, {given.exhausted}, 'FAILED')
    return given.exhausted
  end
  redis.call('ZREM', LEASED, request.number)
  write(request, {given.handed_back})
  enter(request, 'QUEUED')
  save(request, {stage = '', num_losses = num_losses})
  enqueue(request)
end

local function forget(request)
  redis.call('UNLINK',
    key('request', request.number), key('payload', request.number), key('events', request.number),
    key('end', request.number), key('number', request.key_id .. '/' .. request.request_id))
  local own = key('of_key', request.key_id)
  for _, set in ipairs({EXPIRING, own, own .. ':' .. request.state}) do
    redis.call('ZREM', set, request.number)
  end
end

-- Let no list of a key have requests of which nothing is known any more.
local function shed(key_id, numbers)
  if #numbers == 0 then
    return
  end
  local own = key('of_key', key_id)
  redis.call('ZREM', own, unpack(numbers))
  for _, state in ipairs({'QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'}) do
    redis.call('ZREM', own .. ':' .. state, unpack(numbers))
  end
end

-- Drop requests of which nothing is known any more, lest they hold up others. Whose they were is not known,
-- either: they stay in of_key until somebody comes upon them there, who sheds them.
local function drop(numbers)
  if #numbers == 0 then
    return
  end
  for _, set in ipairs({WAITING, OLDEST, START_BY, END_BY, LEASED, EXPIRING, DELIVERIES}) do
    redis.call('ZREM', set, unpack(numbers))
  end
  for _, name in ipairs(redis.call('ZRANGE', HEADS, 0, -1)) do
    if redis.call('ZREM', key('waiting', name), unpack(numbers)) > 0 then
      local key_id, priority = split_head(name)
      note_head({key_id = key_id, priority = priority})
    end
  end
  for _, key_id in ipairs(redis.call('ZRANGE', TURNS, 0, -1)) do
    if redis.call('ZREM', key('deliveries', key_id), unpack(numbers)) > 0 then
      owe(key_id, numbers[1], nil)
    end
  end
  for _, number in ipairs(numbers) do
    redis.call('UNLINK', key('payload', number), key('events', number), key('end', number))
  end
end
