-- Write what a worker says that happened last, and the end.

-- Tell whether the same worker has written this end already, by a call whose answer was lost.
local function is_written()
  local number = find()
  local request = number and load(number)
  return request and request.holder == given.holder and redis.call('GET', key('end', number)) == given['end']
end

local request = held()
if not request then
  return is_written() and 'HELD' or 'LOST'
end
local happened = unwritten(request)
happened[#happened + 1] = given['end']
finish(request, happened, given.state)
return 'HELD'
