-- Write what a worker says that happened.
local request = held()
if not request or tonumber(given.after) > tonumber(request.last_sequence) then
  return 'LOST'
end
local happened = unwritten(request)
if #happened > 0 then
  write(request, happened)
end
return lease(request)
