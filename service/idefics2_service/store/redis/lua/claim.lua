-- Begin the next request; those whose time is over end instead. Return these, and what was begun; or the number
-- of one that is lost. Each holder begins one at most: who heard no answer asks again, and the first call may
-- come late, behind the other.
local MAX_ENDED = 100 -- in one call, for everybody else waits for it
local CLAIMED = key('claimed', given.holder) -- number and attempt of what the holder has begun

-- Return the first of those who wait, but of the keys that are passed over.
local function next_number()
  if not given.but_of then
    return redis.call('ZRANGE', WAITING, 0, 0)[1]
  end
  local but_of = read_keys(given.but_of)
  for _, name in ipairs(redis.call('ZRANGE', HEADS, 0, -1)) do
    local key_id, priority = split_head(name)
    local first = redis.call('ZRANGE', key('waiting', key_id, priority), 0, 0)[1]
    if not first then -- what waited of it is lost
      redis.call('ZREM', HEADS, name)
    elseif not but_of[key_id] then
      return first
    end
  end
end

-- Hold a request for another lease, and for as long as its payload may be on its way to who holds it.
local function hold(request)
  local seconds = redis.call('STRLEN', key('payload', request.number)) / given.least_bytes_per_second
  redis.call('ZADD', LEASED, now + given.lease_seconds + seconds, request.number)
end

local function describe_claim(request)
  return {
    request.key_id,
    request.request_id,
    tonumber(request.attempt),
    redis.call('GET', key('payload', request.number)),
    string.format('%.6f', request.end_by - now),
    request.start_by and string.format('%.6f', request.start_by - now) or '',
    string.format('%.6f', seconds_since(request.created_at)),
    tonumber(request.last_sequence),
    request.traceparent,
  }
end

local function begin(request)
  dequeue(request)
  hold(request)
  enter(request, 'RUNNING')
  local attempt = request.attempt + 1
  save(request, {
    attempt = attempt,
    holder = given.holder,
    started_at = now,
    num_generated_tokens = 0,
  })
  local last_tag = redis.call('HGET', PROGRESS, 'last_tag') or 0
  redis.call('HSET', PROGRESS, 'last_tag', math.max(last_tag, request.tag))
  measure_pace()
  write(request, {cmsgpack.pack({'AttemptStarted', {attempt = attempt}})}) -- as codec.py would write it
  redis.call('SET', CLAIMED, request.number .. attempt, 'PX', KNOWN_MILLISECONDS)
  return describe_claim(request)
end

-- Return what the holder has begun before, and holds still; OVER where it does not.
local function begun_before()
  local begun = redis.call('GET', CLAIMED)
  if not begun then
    return nil
  end
  local number, attempt = begun:sub(1, 16), tonumber(begun:sub(17))
  local request = load(number)
  if request.state ~= 'RUNNING' or request.holder ~= given.holder or tonumber(request.attempt) ~= attempt then
    return 'OVER'
  end
  hold(request)
  return describe_claim(request)
end

-- Begin the next request, and note in `ended` those that end instead.
local function begin_next(ended)
  for _ = 1, MAX_ENDED do
    local number = next_number()
    if not number then
      return false
    end
    local request = load(number)
    if not request.state then
      drop({number})
      return number
    end
    local late = overdue(request)
    if not late then
      return begin(request)
    end
    finish(request, {late}, 'FAILED')
    ended[#ended + 1] = describe(request, late)
  end
  return 'AGAIN'
end

insist()
local ended, begun = told_before(), begun_before()
if ended or begun then
  return {ended or {}, begun or 'AGAIN'}
end
ended = {}
begun = begin_next(ended)
if #ended > 0 then
  note_told(ended)
end
return {ended, begun}
