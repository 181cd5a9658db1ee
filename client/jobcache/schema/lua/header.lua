-- Prelude of every read: how fresh the answer is, taken in the same step as the answer.

-- Fields of meta, then the type of the lease ('none' while nobody leads), which lies beside meta, then the server's clock.
local function header(meta)
    local fields = redis.call('HMGET', meta, unpack(HEADER_FIELDS))
    local lease = string.sub(meta, 1, -1 - #KEY.meta) .. KEY.lease
    fields[#HEADER_FIELDS + 1] = redis.call('TYPE', lease).ok
    fields[#HEADER_FIELDS + 2] = redis.call('TIME')
    return fields
end

-- Whether what a reader was told in some generation of some epoch is what it would be told now.
local function is_known(head, epoch, generation)
    return head[2] == epoch and head[3] == generation
end

-- The generation after which fields are wanted: none is known of another epoch.
local function known_since(head, epoch, generation)
    return head[2] == epoch and tonumber(generation) or 0
end

-- Oldest heartbeat that counts as fresh, in epoch seconds: as of the last completed scan, and before the first as of
-- the beginning, which the epoch names. Nil when there is neither.
local function fresh_since(meta)
    local at = redis.call('HMGET', meta, META.completed_at, META.stale_after, META.epoch)
    local judged_at, stale_after = tonumber(at[1] or at[3] or ''), tonumber(at[2] or '')
    local since = judged_at and stale_after and judged_at - stale_after
    return since == since and since or nil -- what is no number does not equal itself
end

local function format_score(number)
    return string.format('%.17g', number)
end
