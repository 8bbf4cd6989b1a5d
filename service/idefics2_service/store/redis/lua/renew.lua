-- Hold a claim for another lease.
local request = held()
if not request then
  return 'LOST'
end
redis.call('ZADD', LEASED, now + given.lease_seconds, request.number)
return lease(request)
