-- Set and remove fields of a hash.
-- KEYS: lease, meta, the hash. ARGV: the lease's value; the epoch; count of fields to remove, and these; then fields and
--   their values. Returns: {generation, that of the write before}

local lease_value, epoch = take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end
for _ = 1, take_count() do
    redis.call('HDEL', KEYS[3], take())
end
if at < #ARGV then
    redis.call('HSET', KEYS[3], unpack(ARGV, at + 1))
end
return {advance(KEYS[2], 1)}
