-- Take the lease if nobody holds it, and mint its fencing token in the same step.
-- KEYS: lease, meta. ARGV: holder, time to live in milliseconds.
-- Returns: {1, the lease's value} when taken, else {0, the value of whoever holds it}

-- A key that somebody made of another type is none of ours.
for k, expected in ipairs({'string', 'hash'}) do
    local found = redis.call('TYPE', KEYS[k]).ok
    if found ~= expected and found ~= 'none' then
        redis.call('UNLINK', KEYS[k])
    end
end

local held = redis.call('GET', KEYS[1])
-- A lease of the holder itself is one whose grant was lost on the way: it is granted anew, under a new token.
if held and string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then
    return {0, held}
end
-- Tokens grow over a flush too, since they follow the clock. One that no clock comes near is a client's work.
local now = redis.call('TIME')
local fence = tonumber(redis.call('HGET', KEYS[2], META.fence) or 0) or 0
local token = math.max(fence < 1e15 and fence + 1 or 0, now[1] * 1000 + math.floor(now[2] / 1000))
local value = string.format('%s %.0f', ARGV[1], token)
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
redis.call('HSET', KEYS[2], META.fence, string.format('%.0f', token))
return {1, value}
