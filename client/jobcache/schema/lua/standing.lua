-- Prelude of every audit: how jobs stand, whatever types the keys turn out to be of.

-- What stands in an answer for a key of a wrong type.
local WRONG_TYPE = '!'

local function unless_wrong(reply)
    if type(reply) ~= 'table' or not reply.err then
        return reply
    end
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then
        error(reply.err)
    end
    return WRONG_TYPE
end

-- Takes the key of a job's hash, then count of index entries and (index, member) for each.
-- Returns: {values of the fields, how many fields there are, score of each entry}
local function take_standing(prefix, fields)
    local job = prefix .. take()
    local values = unless_wrong(redis.pcall('HMGET', job, unpack(fields)))
    local length = unless_wrong(redis.pcall('HLEN', job))
    local scores = {}
    for i = 1, take_count() do
        local index, member = take(), take()
        scores[i] = unless_wrong(redis.pcall('ZSCORE', prefix .. index, member))
    end
    return {values, length, scores}
end
