-- A page of jobs, newest first, out of the disjoint union of some indexes; equal scores go by member, backwards. It is
-- long since the server has no command that merges sorted sets and stops at a limit, nor one that seeks a member.
-- KEYS: meta, then the indexes.
-- ARGV: epoch and generation in which the reader was answered last; whether it still knows that answer ('1' or '');
--   limit; score and member of the cursor ('' for the first page); seconds before the last completed scan within which
--   a score must lie ('' for any); what stands before a member to make it an id; what stands before an id to make it a
--   key.
-- Returns: {header, total of the union, rows}, a row being {member, score, {revision, fields}} (see the prelude); the
--   header alone where the reader knows the rest.

local head = header(KEYS[1])
if ARGV[3] == '1' and is_known(head, ARGV[1], ARGV[2]) then
    return {head}
end

local since = known_since(head, ARGV[1], ARGV[2])
local limit, after_score, after_member, window = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
local member_prefix, job_prefix = ARGV[8], ARGV[9]

local function number(score)
    if score == '-inf' then
        return -math.huge
    end
    return tonumber(score)
end

-- Bytewise, as Redis orders members; Lua's own comparison follows the locale.
local function precedes(a, b)
    local shared = math.min(#a, #b)
    for i = 1, shared do
        local x, y = string.byte(a, i), string.byte(b, i)
        if x ~= y then
            return x < y
        end
    end
    return #a < #b
end

-- How many members of an index stand before or at the cursor: a search by halving among equal scores.
local function position(index)
    if after_score == '' then
        return 0
    end
    local low = redis.call('ZCOUNT', index, '(' .. after_score, '+inf')
    local high = low + redis.call('ZCOUNT', index, after_score, after_score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if precedes(redis.call('ZREVRANGE', index, middle, middle)[1], after_member) then
            high = middle
        else
            low = middle + 1
        end
    end
    return low
end

local oldest = '-inf'
if window ~= '' then
    local completed_at = redis.call('HGET', KEYS[1], META.completed_at)
    if completed_at then
        oldest = format_score((tonumber(completed_at) or 0) - tonumber(window))
    end
end

local total, merged = 0, {}
for k = 2, #KEYS do
    if oldest == '-inf' then
        total = total + redis.call('ZCARD', KEYS[k])
    else
        total = total + redis.call('ZCOUNT', KEYS[k], oldest, '+inf')
    end
    if limit > 0 then
        local first = position(KEYS[k])
        local flat = redis.call('ZREVRANGE', KEYS[k], first, first + limit - 1, 'WITHSCORES')
        if flat[1] then
            merged[#merged + 1] = {flat = flat, at = 1, score = number(flat[2])}
        end
    end
end

local floor = number(oldest)

-- The next of all indexes, each of which is in order already: member and score, or nil when none is left in the window.
local function take_next()
    local best
    for _, one in ipairs(merged) do
        if one.score and (not best or one.score > best.score or (one.score == best.score
                and precedes(best.flat[best.at], one.flat[one.at]))) then
            best = one
        end
    end
    if not best or best.score < floor then
        return nil
    end
    local member, score = best.flat[best.at], best.flat[best.at + 1]
    best.at = best.at + 2
    best.score = best.flat[best.at] and number(best.flat[best.at + 1])
    return member, score
end

local rows = {}
for i = 1, limit do
    local member, score = take_next()
    if not member then
        break
    end
    rows[i] = {member, score, read_job(job_prefix .. member_prefix .. member, since)}
end
return {head, total, rows}
