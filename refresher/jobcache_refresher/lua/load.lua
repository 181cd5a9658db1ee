-- Some jobs as they are published. Only reads.
-- KEYS: meta, jobs. ARGV: first and last rank in the index; what stands before an id to make it a key; the fields to read.
-- Returns: {epoch, ids, values of the fields of each}

local ids = redis.call('ZRANGE', KEYS[2], ARGV[1], ARGV[2])
local jobs = {}
for i, id in ipairs(ids) do
    jobs[i] = redis.call('HMGET', ARGV[3] .. id, unpack(ARGV, 4))
end
return {redis.call('HGET', KEYS[1], META.epoch) or '', ids, jobs}
