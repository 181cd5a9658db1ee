-- Remove index entries that stand for nothing.
-- KEYS: lease, meta. ARGV: the lease's value; the epoch; the prefix of every key; count of entries, (index, member) for
--   each. Returns: {generation, that of the write before}

local lease_value, epoch, prefix = take(), take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end
remove_entries(prefix)
return {advance(KEYS[2], 1)}
