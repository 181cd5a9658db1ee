-- Give the lease back.
-- KEYS: lease. ARGV: the lease's value. Returns: 1, or 0 when the lease is another's or gone

if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('DEL', KEYS[1])
