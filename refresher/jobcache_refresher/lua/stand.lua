-- Where the cache stands before a scan begins.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch. Returns: {generation, server's clock in epoch seconds}

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
local now = redis.call('TIME')
return {tonumber(redis.call('HGET', KEYS[2], 'generation') or -1), string.format('%d.%06d', now[1], now[2])}
