-- Write what a worker says that happened last, and the end.
local request = held()
if not request then
  return 'LOST'
end
local happened = unwritten(request)
happened[#happened + 1] = given['end']
finish(request, happened, given.state)
return 'HELD'
