-- Prelude of every write: reads arguments one by one, and moves index entries and names of listings as it is
-- told. What is indexed where is decided in Python (jobcache.index); nothing here knows a key's name.

local at = 0

local function take()
    at = at + 1
    return ARGV[at]
end

local function take_count()
    return tonumber(take())
end

-- count, then (index, member) for each
local function remove_entries(prefix)
    for _ = 1, take_count() do
        local index, member = take(), take()
        redis.call('ZREM', prefix .. index, member)
    end
end

-- count, then (listing, name, count of witnesses, witnesses) for each
local function settle_listings(prefix)
    for _ = 1, take_count() do
        local listing, name, alive = take(), take(), 0
        for _ = 1, take_count() do
            alive = alive + redis.call('EXISTS', prefix .. take())
        end
        if alive > 0 then
            redis.call('ZADD', prefix .. listing, 0, name)
        else
            redis.call('ZREM', prefix .. listing, name)
        end
    end
end

-- Chips that a job adds to the sum of the active ones, as of the last completed scan.
local function active_chips(job, since)
    local values = redis.call('HMGET', job, JOB.heartbeat_at, JOB.chips)
    if since and values[1] and values[2] and tonumber(values[1]) >= since then
        return tonumber(values[2])
    end
    return 0
end
