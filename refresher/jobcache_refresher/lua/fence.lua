-- Prelude of every write of the refresher: refuses whoever lost the lease, or writes to a cache that was flushed.
-- KEYS[1] is the lease, KEYS[2] meta.

local function refuse(lease_value, epoch)
    if redis.call('GET', KEYS[1]) ~= lease_value then
        return redis.error_reply('FENCED the lease is ' .. (redis.call('GET', KEYS[1]) or 'gone'))
    end
    if epoch and redis.call('HGET', KEYS[2], 'epoch') ~= epoch then
        return redis.error_reply('EPOCH the cache is of epoch ' .. (redis.call('HGET', KEYS[2], 'epoch') or 'none'))
    end
    return nil
end
