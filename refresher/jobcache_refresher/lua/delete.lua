-- Delete one job for every reader, and leave a tombstone that a scan in flight cannot cross.
-- KEYS: lease, meta, the job's hash, the tombstones, the change feed.
-- ARGV: the lease's value; the epoch; id of the request; id of the job; the revision it was read at ('' for none); cap of
--   the change feed; the prefix of every key; its index entries, then its listings (see the prelude).
-- Returns: {generation, that of the write before, 1}; with 0 at the end when the job is at another revision: nothing was
--   done

local lease_value, epoch, position, id, revision = take(), take(), take(), take(), take()
local cap, prefix = take(), take()
local refusal = refuse(lease_value, epoch)
if refusal then
    return refusal
end

local meta, job = KEYS[2], KEYS[3]
if (redis.call('HGET', job, JOB.rev) or '') ~= revision then
    local stands = redis.call('HMGET', meta, META.generation, META.written)
    return {tonumber(stands[1]), tonumber(stands[2] or 0), 0}
end

local generation, before = advance(meta, 1)
if revision ~= '' then
    local chips = active_chips(job, fresh_since(meta))
    if chips ~= 0 then
        redis.pcall('HINCRBY', meta, META.active_chips, -chips) -- no number any more: an audit sums them anew
    end
    remove_entries(prefix)
    redis.call('DEL', job)
    settle_listings(prefix)
    -- A feed that takes no more is begun anew by an audit, and its readers look at everything then.
    redis.pcall('XADD', KEYS[5], 'MAXLEN', '~', cap, '*', FEED.change, 'deleted', FEED.id, id)
end
redis.call('ZADD', KEYS[4], generation, id)
redis.call('HSET', meta, META.deleted_position, position)
return {generation, before, 1}
