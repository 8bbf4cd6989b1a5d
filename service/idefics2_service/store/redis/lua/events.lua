-- Return a part of a history; nothing where there is no such request.
local number = find()
return number and redis.call('XRANGE', key('events', number), given.first .. '-0', '+', 'COUNT', given.limit)
