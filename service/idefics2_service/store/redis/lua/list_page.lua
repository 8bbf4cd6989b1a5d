-- Return requests of a key, newest first.
local set = given.state and key('of_key', given.key_id, given.state) or key('of_key', given.key_id)
local newest = given.before and '(' .. given.before or '+inf'
local page = {}
local numbers = redis.call('ZRANGE', set, newest, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, given.limit)
for _, number in ipairs(numbers) do
  page[#page + 1] = view(number)
end
return page
