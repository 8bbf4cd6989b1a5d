-- End a request that waits, ask the worker of one that runs to stop.
-- Return where it stands; nothing where there is none.
local number = find()
if not number then
  return false
end
insist()
local request = load(number)
if request.state == 'QUEUED' then
  finish(request, {given.cancelled}, 'CANCELLED')
elseif request.state == 'RUNNING' then
  save(request, {is_cancelled = 1})
  tell_of(request, 'cancelled')
end
return view(number, true)
