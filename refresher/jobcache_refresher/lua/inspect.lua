-- See how large indexes are and how jobs stand, with the deletions that the refresher may not know of yet: in one step,
-- and so in one script. A key that would end by itself no longer does.
-- KEYS: lease, meta, requests, changes, tombstones.
-- ARGV: the lease's value; the epoch; the prefix of every key; count of indexes, and the indexes; count of jobs, then
--   for each the key of its hash without prefix, count of index entries and (index, member) for each.
-- Returns: {{completed_at, stale_after, active_chips}, keys of streams and tombstones of a wrong type, and of streams
--   that are empty or at an id that no clock comes near (such a stream may take no more), ids that clients deleted,
--   how many keys would have ended, sizes, standings}; a standing is {{revision}, count of fields, scores}, and '!'
--   stands for a wrong type.

local lease_value, epoch, prefix = take(), take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end

local meta = KEYS[2]
local ending = redis.call('PERSIST', meta)

local function is_at_an_end(stream)
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    return not newest or string.find(newest[1], '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d') ~= nil
end

local wrong = {}
for k, expected in pairs({[3] = 'stream', [4] = 'stream', [5] = 'zset'}) do
    local found = redis.call('TYPE', KEYS[k]).ok
    if found ~= 'none' and (found ~= expected or expected == 'stream' and is_at_an_end(KEYS[k])) then
        wrong[#wrong + 1] = KEYS[k]
    end
    ending = ending + redis.call('PERSIST', KEYS[k])
end

local deleted = redis.pcall('ZRANGE', KEYS[5], 0, -1)
if deleted.err then -- of a wrong type
    deleted = {}
end

local sizes = {}
for i = 1, take_count() do
    local index = prefix .. take()
    sizes[i] = unless_wrong(redis.pcall('ZCARD', index))
    ending = ending + redis.call('PERSIST', index)
end

local standings = {}
for i = 1, take_count() do
    ending = ending + redis.call('PERSIST', prefix .. ARGV[at + 1])
    standings[i] = take_standing(prefix, {JOB.rev})
end

local sums = redis.call('HMGET', meta, META.completed_at, META.stale_after, META.active_chips)
return {sums, wrong, deleted, ending, sizes, standings}
