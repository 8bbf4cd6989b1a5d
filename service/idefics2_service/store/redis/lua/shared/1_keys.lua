-- What every script begins with: its arguments, the store's clock, and where things lie.

-- Arguments are names and values; `event` may come several times.
local given, events = {}, {}
for i = 1, #ARGV, 2 do
  if ARGV[i] == 'event' then
    events[#events + 1] = ARGV[i + 1]
  else
    given[ARGV[i]] = ARGV[i + 1]
  end
end

-- One clock decides, whatever those of the replicas say. Seconds since the epoch.
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000

-- Return how long something has been so; the clock may have been set back.
local function seconds_since(at)
  return math.max(0, now - at)
end

-- All keys begin with KEYS[1], which has a hash tag: one slot of a cluster holds them all, so that a script
-- may go on to keys whose names it only reads on its way.
local function key(...)
  return KEYS[1] .. table.concat({...}, ':')
end

-- A request has a number, written with sixteen digits so that texts sort as numbers do. By it go
--   request:<number>  hash: what is known of it       payload:<number>  what the caller sent, until the end
--   events:<number>   stream: its history             end:<number>      how it ended
--   claimed:<holder> text: number and attempt of what it has begun, for a while
--   told:<call>      what a call was answered that nobody else is told, for a while: its answer may be lost
-- and number:<key_id>/<request_id> leads to it.
local PROGRESS = key('progress') -- hash: last_number, last_tag, begun_at, interval, deliveries_cursor

-- Sorted sets of numbers.
local WAITING = key('waiting') -- QUEUED, by tag and then by number: the order in which they are begun
local OLDEST = key('oldest') -- QUEUED, by created_at
local START_BY = key('start_by') -- QUEUED, by when it is too late to begin
local END_BY = key('end_by') -- QUEUED, by when it is too late to end
local LEASED = key('leased') -- RUNNING, by when the worker counts as lost
local EXPIRING = key('expiring') -- ended, by when they are forgotten, or are looked at again: none of DELIVERIES is
local DELIVERIES = key('deliveries') -- ended, by when somebody is to be told
-- `<key_id>:<priority>` of which requests are QUEUED, by the tag of the first one. Where a server lost it alone,
-- what it named is begun when no key is passed over.
local HEADS = key('heads')
-- Callers' keys of DELIVERIES, by when one of theirs may be told of next
local TURNS = key('turns')
-- And of each caller's key: waiting:<key_id>:<priority>, as WAITING; deliveries:<key_id>, as DELIVERIES;
-- of_key:<key_id>[:<state>], by number.

-- Return numbers whose time is over. All digits count: what is due here must be so by its own field, too.
local function due(set, limit)
  return redis.call('ZRANGE', set, '-inf', string.format('(%.17g', now), 'BYSCORE', 'LIMIT', 0, limit)
end

-- Return the callers' keys that are named with commas between, as a set, and how many there are.
local function read_keys(names)
  local keys, num = {}, 0
  for key_id in (names or ''):gmatch('[^,]+') do
    keys[key_id], num = true, num + 1
  end
  return keys, num
end

local KNOWN_LEASES = 40 -- for so long it is known what a call has done, for who heard no answer and asks again
local KNOWN_MILLISECONDS = math.ceil(1000 * KNOWN_LEASES * given.lease_seconds)

-- Let the writes that follow pass where the server's memory is full: it refuses a script at its first write,
-- if that one may take memory, and never later. So only new requests are refused; what was taken comes to its
-- end.
local function insist()
  redis.call('UNLINK', key('nothing'))
end
