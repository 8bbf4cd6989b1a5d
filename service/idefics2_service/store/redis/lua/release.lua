-- Take back what a worker hands back.
local request = held()
if not request then
  return 'LOST'
end
if not hand_back(request, given.is_lost == '1') then
  return 'HELD'
end
return request.is_cancelled == '1' and 'CANCELLED' or 'EXHAUSTED'
