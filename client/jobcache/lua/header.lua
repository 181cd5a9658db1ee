-- Prelude of every read: how fresh the answer is, taken in the same step as the answer.

local function header(meta)
    local fields = redis.call('HMGET', meta, 'schema', 'epoch', 'generation', 'state', 'reason',
        'completed_at', 'stale_after', 'status_dir')
    local now = redis.call('TIME')
    fields[9] = string.format('%d.%06d', now[1], now[2])
    return fields
end

-- Oldest heartbeat that counts as fresh, in epoch seconds, or nil before the first completed scan.
local function fresh_since(meta)
    local at = redis.call('HMGET', meta, 'completed_at', 'stale_after')
    if not at[1] or not at[2] then
        return nil
    end
    return tonumber(at[1]) - tonumber(at[2])
end

local function format_score(number)
    return string.format('%.17g', number)
end
