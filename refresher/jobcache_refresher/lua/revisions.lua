-- A stretch of the index of all jobs, with the revision of each. Only reads.
-- KEYS: meta, jobs. ARGV: first and last rank; what stands before an id to make it a key.
-- Returns: {epoch, id, revision, id, revision, ...}; the revision of a hash that is gone is ''

local found = {redis.call('HGET', KEYS[1], META.epoch) or ''}
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], ARGV[1], ARGV[2])) do
    found[#found + 1] = id
    found[#found + 1] = redis.call('HGET', ARGV[3] .. id, JOB.rev) or ''
end
return found
