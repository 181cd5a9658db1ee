-- Apply changes of jobs: hash, index entries and feed of each move together, in this one step.
-- KEYS: lease, meta, changes, tombstones.
-- ARGV: the lease's value; the epoch; the generation that was current before the scan began; cap of the feed; the
--   prefix of every key; count of operations; then for each: kind ('put' | 'del'); key of the hash without prefix; id;
--   the revision it must be at ('' for none); what to announce ('' for nothing); for 'put' count of (field,
--   value) pairs and the pairs, count of fields to drop and the fields; index entries to remove and to add. At the end
--   the listings that any of them touches.
-- Returns: {generation, that of the write before, outcome of each}: 'ok', 'changed' (the job is at another revision:
--   nothing was done) or 'tombstone' (a client deleted it after the scan began: nothing was done)

local lease_value, epoch, observed, cap, prefix = take(), take(), tonumber(take()), take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end

local meta, changes, tombstones = KEYS[2], KEYS[3], KEYS[4]
local since = fresh_since(meta)
local generation, before = advance(meta, 1)
local chips = 0

local function take_list(count)
    local list = {}
    for i = 1, count do
        list[i] = take()
    end
    return list
end

local function skip_entries(width)
    take_list(take_count() * width)
end

local function judge(job, id, revision)
    local buried = redis.call('ZSCORE', tombstones, id)
    if buried and tonumber(buried) > observed then
        return 'tombstone'
    end
    if (redis.call('HGET', job, 'rev') or '') ~= revision then
        return 'changed'
    end
    return 'ok'
end

local function operation()
    local kind, job, id, revision, announcement = take(), prefix .. take(), take(), take(), take()
    local outcome = judge(job, id, revision)
    local pairs_to_set, fields_to_drop = {}, {}
    if kind == 'put' then
        pairs_to_set = take_list(take_count() * 2)
        fields_to_drop = take_list(take_count())
    end
    if outcome ~= 'ok' then
        skip_entries(2)
        skip_entries(3)
        return outcome
    end

    chips = chips - active_chips(job, since)
    if kind == 'del' then
        redis.call('DEL', job)
    else
        redis.call('HSET', job, 'rev', generation, unpack(pairs_to_set))
        if #fields_to_drop > 0 then
            redis.call('HDEL', job, unpack(fields_to_drop))
        end
    end
    chips = chips + active_chips(job, since)
    remove_entries(prefix)
    add_entries(prefix)
    redis.call('ZREM', tombstones, id)
    if announcement ~= '' then
        redis.call('XADD', changes, 'MAXLEN', '~', cap, '*', 'change', announcement, 'id', id)
    end
    return outcome
end

local outcomes = {}
for i = 1, take_count() do
    outcomes[i] = operation()
end
settle_listings(prefix)
if chips ~= 0 then
    redis.call('HINCRBY', meta, 'active_chips', chips)
end
return {generation, before, outcomes}
