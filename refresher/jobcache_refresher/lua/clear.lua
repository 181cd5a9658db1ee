-- Drop keys that an earlier epoch left.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch, then the keys. Returns: how many there were

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
return redis.call('UNLINK', unpack(ARGV, 3))
