-- Entries of the change feed after a position.
-- KEYS: meta, the feed. ARGV: the position ('' for the present end), most entries.
-- Returns: {header, id of the last entry ever added, id of the oldest entry kept, entries}

local last, oldest = '0-0', '0-0'
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
if newest[1] then
    last = newest[1][1]
    oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1][1]
end
local entries = {}
if ARGV[1] ~= '' then
    -- Nothing can follow the largest position there is: the server calls that an error.
    local found = redis.pcall('XRANGE', KEYS[2], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
    entries = found.err and {} or found
end
return {header(KEYS[1]), last, oldest, entries}
