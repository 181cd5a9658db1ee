-- Drop keys that should not be there, such as those that an earlier epoch left.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch, then the keys. Returns: {generation, that of the write before}

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
redis.call('UNLINK', unpack(ARGV, 3))
return {advance(KEYS[2], 1)}
