-- Where the cache stands before a scan begins. A replica that was promoted may lack writes that readers saw: where that
-- is possible, a leap leaves their generations out, so that none of them comes again with other contents.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch, how far to leap (0 for not at all), the schema's version, which
--   a client may have let grow.
-- Returns: {generation, that of the refresher's last write, server's clock in epoch seconds}

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
redis.call('HSET', KEYS[2], META.schema, ARGV[4])
local now = redis.call('TIME')
local stands = redis.call('HMGET', KEYS[2], META.generation, META.written)
if ARGV[3] ~= '0' then
    advance(KEYS[2], ARGV[3])
end
return {tonumber(stands[1] or -1), tonumber(stands[2] or 0), string.format('%d.%06d', now[1], now[2])}
