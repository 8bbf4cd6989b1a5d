-- Take back what a worker hands back.
local request = held()
if not request then
  return 'LOST'
end
hand_back(request, given.is_lost == '1')
return 'HELD'
