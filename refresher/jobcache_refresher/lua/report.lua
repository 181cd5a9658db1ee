-- Set fields of meta between two completed scans: progress, state, reason. And note when the leader last told how its
-- work goes, so that readers take a long scan for slow. A scan that was overdue before it told stays so.
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
local told = redis.call('HMGET', KEYS[2], META.completed_at, META.reported_at, META.overdue_after)
local now = redis.call('TIME')
local last = math.max(tonumber(told[1]) or 0, tonumber(told[2]) or 0)
local bound = tonumber(told[3])
if not bound or now[1] + now[2] / 1e6 - last <= bound then
    redis.call('HSET', KEYS[2], META.reported_at, string.format('%d.%06d', now[1], now[2]))
end
return 1
