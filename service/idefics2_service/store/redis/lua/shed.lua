-- Let no list of a key have what was found lost there, and is still: another server may have answered before.
local lost = {}
for number in given.numbers:gmatch('[^,]+') do
  if not is_known(number) then
    lost[#lost + 1] = number
  end
end
shed(given.key_id, lost)
