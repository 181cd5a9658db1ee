-- Some jobs as they are published.
-- KEYS: the index of all jobs. ARGV: what stands before an id to make it a key; first and last place in the index; the
--   fields to read.
-- Returns: {ids, values of the fields of each}

local ids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])
local jobs = {}
for i, id in ipairs(ids) do
    jobs[i] = redis.call('HMGET', ARGV[1] .. id, unpack(ARGV, 4))
end
return {ids, jobs}
