-- Prelude of every read: how fresh the answer is, taken in the same step as the answer.

local function header(meta)
    local fields = redis.call('HMGET', meta, 'schema', 'epoch', 'generation', 'state', 'reason',
        'completed_at', 'stale_after', 'status_dir')
    local now = redis.call('TIME')
    fields[9] = string.format('%d.%06d', now[1], now[2])
    return fields
end

-- Oldest heartbeat that counts as fresh, in epoch seconds: as of the last completed scan, and before the first as of
-- the beginning, which the epoch names. Nil when there is neither.
local function fresh_since(meta)
    local at = redis.call('HMGET', meta, 'completed_at', 'stale_after', 'epoch')
    local judged_at = at[1] or at[3]
    return judged_at and at[2] and tonumber(judged_at) - tonumber(at[2]) or nil
end

local function format_score(number)
    return string.format('%.17g', number)
end

-- What is read of a job: its revision, and its fields as well if it was written after a generation (a reader has the
-- rest from before); nothing when there is no such job.
local function read_job(job, since, fields)
    local revision = redis.call('HGET', job, 'rev')
    if not revision then
        return {}
    end
    if tonumber(revision) <= since then
        return {revision}
    end
    return {revision, redis.call('HMGET', job, unpack(fields))}
end
