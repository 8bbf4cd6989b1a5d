-- End a request that waits, ask the worker of one that runs to stop.
-- Return where it stands, and its end where this was it; nothing where there is none.
local number = find()
if not number then
  return false
end
insist()
local request, ended = load(number), false
if request.state == 'QUEUED' then
  finish(request, {given.cancelled}, 'CANCELLED')
  ended = describe(request, given.cancelled)
elseif request.state == 'RUNNING' then
  save(request, {is_cancelled = 1})
  tell_of(request, 'cancelled')
end
return {view(number), ended}
