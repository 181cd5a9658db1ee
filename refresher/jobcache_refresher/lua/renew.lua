-- Renew the lease and show that its holder lives.
-- KEYS: lease, meta. ARGV: the lease's value, time to live in milliseconds.
-- Returns: 1; 0 when the lease is another's or gone; -1 when it is gone with the cache

if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 and -1 or 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local found = redis.call('TYPE', KEYS[2]).ok
if found == 'hash' or found == 'none' then
    local now = redis.call('TIME')
    redis.call('HSET', KEYS[2], META.beat_at, string.format('%d.%06d', now[1], now[2]))
end
return 1
