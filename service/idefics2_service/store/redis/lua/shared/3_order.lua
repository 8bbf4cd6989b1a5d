-- Who waits, and who is before whom.

local NEWEST_WEIGHT = 0.2 -- of the newest interval in the average

local function own_queue(request)
  return key('waiting', request.key_id, request.priority)
end

-- Return a caller's key and the priority that are named in HEADS.
local function split_head(name)
  return name:match('^(.*):(.*)$')
end

-- Let HEADS know who is first of a caller's key now.
local function note_head(request)
  local name = request.key_id .. ':' .. request.priority
  local tag = redis.call('ZRANGE', own_queue(request), 0, 0, 'WITHSCORES')[2]
  if tag then
    redis.call('ZADD', HEADS, tag, name)
  else
    redis.call('ZREM', HEADS, name)
  end
end

local function enqueue(request)
  redis.call('ZADD', WAITING, request.tag, request.number)
  redis.call('ZADD', own_queue(request), request.tag, request.number)
  note_head(request)
  redis.call('ZADD', OLDEST, request.created_at, request.number)
  redis.call('ZADD', END_BY, request.end_by, request.number)
  if request.start_by then
    redis.call('ZADD', START_BY, request.start_by, request.number)
  end
  tell('work')
end

local function dequeue(request)
  for _, set in ipairs({WAITING, own_queue(request), OLDEST, END_BY, START_BY}) do
    redis.call('ZREM', set, request.number)
  end
  note_head(request)
end

-- Let keys take turns: behind the key's own, or behind who was begun last.
local function make_tag(request)
  local base = tonumber(redis.call('HGET', PROGRESS, 'last_tag') or 0)
  if request.priority == 'LOW' then
    base = base + given.low_priority_rounds
  end
  local own = redis.call('ZRANGE', own_queue(request), 0, 0, 'REV', 'WITHSCORES')[2]
  return math.max(base, tonumber(own or 0)) + 1
end

-- Average the time between two that are begun while others wait; one was begun and has left WAITING.
local function measure_pace()
  local begun_at, interval = unpack(redis.call('HMGET', PROGRESS, 'begun_at', 'interval'))
  if begun_at then
    local newest = seconds_since(begun_at)
    local before = interval or newest
    redis.call('HSET', PROGRESS, 'interval', before + NEWEST_WEIGHT * (newest - before))
  end
  if redis.call('EXISTS', WAITING) == 1 then
    redis.call('HSET', PROGRESS, 'begun_at', now)
  else
    redis.call('HDEL', PROGRESS, 'begun_at')
  end
end
