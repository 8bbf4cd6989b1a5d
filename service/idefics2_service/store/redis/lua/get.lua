-- Return where a request stands; nothing where there is none.
local number = find()
return number and view(number)
