-- What should be read of the tree and is not, as far as it concerns a path: the path itself, what lies below it, and
-- the directories above it. Unordered, since Lua's comparison follows the server's locale.
-- KEYS: meta, problems. ARGV: the path, '' for all.
-- Returns: {header, {path, problem, path, problem, ...}}

local path = ARGV[1]

local function lies_below(above, below)
    return string.sub(below, 1, #above + 1) == above .. '/'
end

local entries, found = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #entries, 2 do
    local one = entries[i]
    if path == '' or one == path or lies_below(path, one) or lies_below(one, path) then
        found[#found + 1] = one
        found[#found + 1] = entries[i + 1]
    end
end
return {header(KEYS[1]), found}
