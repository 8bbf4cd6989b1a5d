-- Take back what a worker hands back.
local request = held()
if not request then
  return 'LOST'
end
local how = hand_back(request, given.is_lost == '1')
if not how then
  return 'HELD'
elseif how == given.cancelled then
  return 'CANCELLED'
end
return how == given.lost_once and 'LOST_ONCE' or 'EXHAUSTED'
