-- Delete one job for every reader, and leave a tombstone that a scan in flight cannot cross.
-- KEYS: meta, the job's hash, the tombstones, the change feed, the requests.
-- ARGV: the epoch the job was read in; its id; the revision it was read at ('' when there was none); caps of the two
--   streams; the prefix of every key; its index entries, then its listings (see the prelude).
-- Returns: {header, 'deleted' | 'absent' | 'changed'}; 'changed' did nothing: read the job again.

local epoch, id, revision = take(), take(), take()
local feed_cap, request_cap, prefix = take(), take(), take()
local meta, job = KEYS[1], KEYS[2]

if redis.call('HGET', meta, META.epoch) ~= epoch or (redis.call('HGET', job, JOB.rev) or '') ~= revision then
    return {header(meta), 'changed'}
end

-- First, since it is what the refresher knows the deletion by: a stream that takes no more ends this before anything
-- is done.
redis.call('XADD', KEYS[5], 'MAXLEN', '~', request_cap, '*', REQUEST.request, REQUEST.delete, REQUEST.id, id)
local outcome = 'absent'
local generation = redis.call('HINCRBY', meta, META.generation, 1)
if revision ~= '' then
    outcome = 'deleted'
    local chips = active_chips(job, fresh_since(meta))
    if chips ~= 0 then
        redis.pcall('HINCRBY', meta, META.active_chips, -chips) -- no number any more: an audit sums them anew
    end
    remove_entries(prefix)
    redis.call('DEL', job)
    settle_listings(prefix)
    -- A feed that takes no more is begun anew by the refresher, and its readers look at everything then.
    redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', feed_cap, '*', FEED.change, 'deleted', FEED.id, id)
end
redis.call('ZADD', KEYS[3], generation, id)
return {header(meta), outcome}
