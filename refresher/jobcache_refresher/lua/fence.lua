-- Prelude of every write of the refresher: refuses whoever lost the lease, or writes to a cache that was flushed.
-- KEYS[1] is the lease, KEYS[2] meta. Keys that somebody made of another type count as gone.

local function is_of_type(key, expected)
    return redis.call('TYPE', key).ok == expected
end

-- A count as this program writes it. Clients may let any field of meta grow.
local function is_count(text)
    return text and #text <= 15 and (text == '0' or string.find(text, '^[1-9]%d*$')) ~= nil
end

local function counts_are_sound(meta)
    local counts = redis.call('HMGET', meta, META.generation, META.written)
    local generation, written = counts[1], counts[2] or '0'
    return is_count(generation) and is_count(written) and tonumber(written) <= tonumber(generation)
end

local function refuse(lease_value, epoch)
    local lease = is_of_type(KEYS[1], 'string') and redis.call('GET', KEYS[1])
    local current = is_of_type(KEYS[2], 'hash') and redis.call('HGET', KEYS[2], META.epoch)
    if lease ~= lease_value then
        if not lease and not current then
            return redis.error_reply('FLUSHED the lease is gone, and so is the cache')
        end
        return redis.error_reply('FENCED the lease is ' .. (lease or 'gone'))
    end
    if epoch and current ~= epoch then
        return redis.error_reply('EPOCH the cache is of epoch ' .. (current or 'none'))
    end
    if epoch and not counts_are_sound(KEYS[2]) then
        return redis.error_reply('EPOCH generation and written of the cache are none that were written')
    end
    return nil
end

-- Let the generation grow, and note that it was the refresher who had it do so: clients that delete do as well, and
-- could hide that the server went back. Returns the generation, and that of the refresher's write before.
local function advance(meta, by)
    local before = tonumber(redis.call('HGET', meta, META.written) or 0)
    local generation = redis.call('HINCRBY', meta, META.generation, by)
    redis.call('HSET', meta, META.written, generation)
    return generation, before
end
