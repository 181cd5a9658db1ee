-- Remove index entries that stand for nothing.
-- KEYS: lease, meta. ARGV: the lease's value; the epoch; the prefix of every key; count of entries, (index, member) for
--   each. Returns: 1

local lease_value, epoch, prefix = take(), take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end
remove_entries(prefix)
redis.call('HINCRBY', KEYS[2], 'generation', 1)
return 1
