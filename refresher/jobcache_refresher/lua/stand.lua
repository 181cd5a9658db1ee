-- Where the cache stands before a scan begins.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch.
-- Returns: {generation, that of the refresher's last write, server's clock in epoch seconds}

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
local now = redis.call('TIME')
local generations = redis.call('HMGET', KEYS[2], 'generation', 'written')
return {tonumber(generations[1] or -1), tonumber(generations[2] or 0), string.format('%d.%06d', now[1], now[2])}
