-- Declare a scan complete: from now on staleness is judged as of this moment. Half of it keeps the sum of active chips,
-- without reading more running jobs than have turned stale or fresh since the last scan. All of it must be one step, and
-- so it is one script.
-- KEYS: lease, meta, tombstones, running, jobs.
-- ARGV: the lease's value; the epoch; the generation that was current before the scan began; seconds without a
--   heartbeat after which a job is stale; what stands before an id to make it a key; then fields of meta and values, an
--   empty value removing the field.
-- Returns: {generation, that of the write before, time of completion in epoch seconds}

local lease_value, epoch, observed, stale_after, job_prefix = take(), take(), take(), take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end

local meta, running = KEYS[2], KEYS[4]
local before = fresh_since(meta)
local now = redis.call('TIME')
local completed_at = string.format('%d.%06d', now[1], now[2])
local after = tonumber(completed_at) - tonumber(stale_after)

-- Chips of the running jobs whose heartbeat lies in a range.
local function chips_between(oldest, newest)
    local sum = 0
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', running, oldest, newest)) do
        sum = sum + tonumber(redis.call('HGET', job_prefix .. id, JOB.chips) or 0)
    end
    return sum
end

local chips = tonumber(redis.call('HGET', meta, META.active_chips) or 0) or 0
if not before then -- somebody took away what tells it
    chips = chips_between(format_score(after), '+inf')
elseif after >= before then
    chips = chips - chips_between(format_score(before), '(' .. format_score(after))
else
    chips = chips + chips_between(format_score(after), '(' .. format_score(before))
end

for i = at + 1, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        redis.call('HDEL', meta, ARGV[i])
    else
        redis.call('HSET', meta, ARGV[i], ARGV[i + 1])
    end
end
redis.call('HSET', meta, META.completed_at, completed_at, META.stale_after, stale_after,
    META.active_chips, string.format('%.0f', chips), META.jobs, redis.call('ZCARD', KEYS[5]))
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', observed)
local generation, written_before = advance(meta, 1)
-- A deletion of a generation to come is none.
redis.call('ZREMRANGEBYSCORE', KEYS[3], string.format('(%.0f', generation), '+inf')
return {generation, written_before, completed_at}
