-- Set fields of meta between two completed scans: progress, state, reason.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch, then fields and their values; an empty value removes the field.
-- Returns: 1

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
for i = 3, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        redis.call('HDEL', KEYS[2], ARGV[i])
    else
        redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    end
end
return 1
