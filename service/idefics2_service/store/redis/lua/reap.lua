-- Take back what dead workers held, end what waited too long, forget what is over.
local AT_ONCE = 200 -- of each, for everybody else waits for it
local num_requeued, num_failed, num_forgotten = 0, 0, 0

insist()
for _, number in ipairs(due(LEASED, AT_ONCE)) do
  local request = load(number)
  if hand_back(request, (request.stage or '') ~= '') then
    num_requeued = num_requeued + 1
  else
    num_failed = num_failed + 1
  end
end
for _, set in ipairs({START_BY, END_BY}) do
  for _, number in ipairs(due(set, AT_ONCE)) do
    local request = load(number)
    finish(request, {overdue(request)}, 'FAILED')
    num_failed = num_failed + 1
  end
end
for _, number in ipairs(due(EXPIRING, AT_ONCE)) do
  forget(load(number))
  num_forgotten = num_forgotten + 1
end
return {num_requeued, num_failed, num_forgotten}
