-- Return a part of a history; nothing where there is no such request. Of a history that the server lost alone, that
-- is how the request ended, if it did: else who waits for its end would wait for ever.
local number = find()
if not number then
  return false
end
local history = key('events', number)
local part = redis.call('XRANGE', history, given.first .. '-0', '+', 'COUNT', given.limit)
if #part > 0 or redis.call('EXISTS', history) == 1 then
  return part
end
local request = load(number)
if request.ended_at and tonumber(request.last_sequence) >= tonumber(given.first) then
  local data = redis.call('GET', key('end', number)) or ''
  part[1] = {request.last_sequence .. '-0', {'time', request.ended_at, 'data', data}}
end
return part
