-- Return the lines of the log in a part of a history; nothing where there is no such request.
local number = find()
if not number then
  return false
end
local lines = {}
for _, entry in ipairs(redis.call('XRANGE', key('events', number), given.first .. '-0', given.last .. '-0')) do
  local data = entry[2][4]
  if data:sub(1, #given.beginning) == given.beginning then
    lines[#lines + 1] = entry
  end
end
return lines
