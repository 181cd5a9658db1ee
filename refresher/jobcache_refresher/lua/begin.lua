-- Begin a new epoch: whatever the namespace held counts for nothing.
-- KEYS: lease, meta, changes. ARGV: the lease's value, then fields of meta and their values.
-- Returns: {epoch, server's clock in epoch seconds}

local refusal = refuse(ARGV[1])
if refusal then
    return refusal
end
-- Out of the lease, since meta may be gone.
local fence = string.match(ARGV[1], '%d+$')
local now = redis.call('TIME')
local epoch = string.format('%d.%06d', now[1], now[2])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('HSET', KEYS[2], META.epoch, epoch, META.generation, 0, META.state, 'building', META.fence, fence, unpack(ARGV, 2))
redis.call('XADD', KEYS[3], '*', FEED.change, 'begin')
return {epoch, epoch}
