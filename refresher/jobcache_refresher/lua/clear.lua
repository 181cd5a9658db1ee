-- Drop keys that should not be there, such as those that an earlier epoch left.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch, then the keys. Returns: how many there were

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
redis.call('HINCRBY', KEYS[2], 'generation', 1)
return redis.call('UNLINK', unpack(ARGV, 3))
