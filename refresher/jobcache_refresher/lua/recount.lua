-- Sum the chips of the fresh running jobs anew.
-- KEYS: lease, meta, running. ARGV: the lease's value; the epoch; what stands before an id to make it a key.
-- Returns: {generation, that of the write before}

local lease_value, epoch, job_prefix = take(), take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end
local since = fresh_since(KEYS[2])
local chips = 0
if since then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], format_score(since), '+inf')) do
        chips = chips + active_chips(job_prefix .. id, since)
    end
end
redis.call('HSET', KEYS[2], META.active_chips, string.format('%.0f', chips))
return {advance(KEYS[2], 1)}
