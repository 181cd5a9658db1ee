-- Apply changes of jobs: hash, index entries and feed of each move together, in this one step. It is long since one step
-- takes up to 50 jobs, and their entries are gathered by index: one command an index instead of one an entry.
-- KEYS: lease, meta, changes, tombstones.
-- ARGV: the lease's value; the epoch; the generation that was current before the scan began; cap of the feed; the
--   prefix of every key, and the same with what makes an id the key of a hash; count of lists of names, then for each
--   count of names and the names; count of operations; then for each: kind ('put' | 'del'); id; the revision it must
--   be at ('' for none); what to announce ('' for nothing); for 'put' the number of a list of fields and their values,
--   count of fields to drop and the fields; count of index entries to remove, and (index, member) for each; count of
--   members to add, and (number of a list of indexes, score, member) for each. At the end the listings that any of them
--   touches.
-- Returns: {generation, that of the write before, outcome of each}: 'ok', 'changed' (the job is at another revision:
--   nothing was done) or 'tombstone' (a client deleted it after the scan began: nothing was done)

local lease_value, epoch = take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end

local observed, cap, prefix, job_prefix = tonumber(take()), take(), take(), take()
local meta, changes, tombstones = KEYS[2], KEYS[3], KEYS[4]
local since = fresh_since(meta)
local has_tombstones = redis.call('EXISTS', tombstones) == 1
local generation, before = advance(meta, 1)
local chips = 0

local function take_list(count)
    local first = at + 1
    at = at + count
    return {unpack(ARGV, first, at)}
end

local lists = {}
for i = 1, take_count() do
    lists[i] = take_list(take_count())
end

local function take_pairs(fields)
    local pairs = {}
    for i, field in ipairs(fields) do
        pairs[2 * i - 1], pairs[2 * i] = field, take()
    end
    return pairs
end

-- By index, what all operations remove (members) and add (scores and members): one command for each index, since many
-- jobs of a step stand in the same.
local removals, additions = {}, {}

local function push(entries, index, ...)
    local list = entries[index]
    if not list then
        list = {}
        entries[index] = list
    end
    for _, part in ipairs({...}) do
        list[#list + 1] = part
    end
end

local function take_entries(wanted)
    for _ = 1, take_count() do
        local index, member = take(), take()
        if wanted then
            push(removals, index, member)
        end
    end
    for _ = 1, take_count() do
        local indexes, score, member = lists[take_count()], take(), take()
        if wanted then
            for _, index in ipairs(indexes) do
                push(additions, index, score, member)
            end
        end
    end
end

local function change_entries(command, entries)
    for index, list in pairs(entries) do
        redis.call(command, prefix .. index, unpack(list))
    end
end

local function judge(job, id, revision)
    local tombstone = has_tombstones and redis.call('ZSCORE', tombstones, id)
    -- A deletion of a generation to come is none.
    if tombstone and tonumber(tombstone) > observed and tonumber(tombstone) <= generation then
        return 'tombstone'
    end
    if (redis.call('HGET', job, JOB.rev) or '') ~= revision then
        return 'changed'
    end
    return 'ok'
end

-- A feed that takes no more, since its last id is the largest there is, begins anew: readers notice.
local function announce(change, id)
    local added = redis.pcall('XADD', changes, 'MAXLEN', '~', cap, '*', FEED.change, change, FEED.id, id)
    if type(added) == 'table' and added.err then
        redis.call('DEL', changes)
        redis.call('XADD', changes, '*', FEED.change, change, FEED.id, id)
    end
end

local function operation()
    local kind, id, revision, announcement = take(), take(), take(), take()
    local job = job_prefix .. id
    local outcome = judge(job, id, revision)
    local ok = outcome == 'ok'
    if ok and revision ~= '' then
        chips = chips - active_chips(job, since)
    end
    if kind == 'put' then
        local pairs_to_set = take_pairs(lists[take_count()])
        local fields_to_drop = take_list(take_count())
        if ok then
            redis.call('HSET', job, JOB.rev, generation, unpack(pairs_to_set))
            if #fields_to_drop > 0 then
                redis.call('HDEL', job, unpack(fields_to_drop))
            end
            chips = chips + active_chips(job, since)
        end
    elseif ok then
        redis.call('DEL', job)
    end
    take_entries(ok)
    if ok and has_tombstones then
        redis.call('ZREM', tombstones, id)
    end
    if ok and announcement ~= '' then
        announce(announcement, id)
    end
    return outcome
end

local outcomes = {}
for i = 1, take_count() do
    outcomes[i] = operation()
end
change_entries('ZREM', removals)
change_entries('ZADD', additions)
settle_listings(prefix)
if chips ~= 0 then
    redis.pcall('HINCRBY', meta, META.active_chips, chips) -- no number any more: an audit sums them anew
end
return {generation, before, outcomes}
