-- Prelude of listings: the members of the disjoint union of some indexes, newest first; equal scores go by member,
-- backwards. It is long since the server has no command that merges sorted sets and stops at a limit, nor one that seeks
-- a member.

local function number(score)
    if score == '-inf' then
        return -math.huge
    end
    return tonumber(score)
end

-- A time that limits a span, in epoch seconds: an argument gives it, or how long it is before the last completed scan.
-- Nil for no limit.
local function read_time(text, meta)
    if string.sub(text, 1, 4) ~= 'ago:' then
        return tonumber(text)
    end
    local completed_at = redis.call('HGET', meta, META.completed_at)
    return completed_at and (tonumber(completed_at) or 0) - tonumber(string.sub(text, 5))
end

-- Whether a time is in a span: from 'after' on and before 'before'. One that cannot be read is in no limited span.
local function is_within(time, after, before)
    if not after and not before then
        return true
    end
    return time and time ~= -math.huge and not (after and time < after) and not (before and time >= before)
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

-- How many members of an index stand before or at a cursor ('' for none): a search by halving among equal scores.
local function count_passed(index, cursor_score, cursor_member)
    if cursor_score == '' then
        return 0
    end
    local low = redis.call('ZCOUNT', index, '(' .. cursor_score, '+inf')
    local high = low + redis.call('ZCOUNT', index, cursor_score, cursor_score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if precedes(redis.call('ZREVRANGE', index, middle, middle)[1], cursor_member) then
            high = middle
        else
            low = middle + 1
        end
    end
    return low
end

-- How many members the indexes of KEYS, from the second on, have in a span.
local function count_members(after, before)
    local total = 0
    for k = 2, #KEYS do
        if after or before then
            local low = after and format_score(after) or '(-inf'
            local high = before and '(' .. format_score(before) or '+inf'
            total = total + redis.call('ZCOUNT', KEYS[k], low, high)
        else
            total = total + redis.call('ZCARD', KEYS[k])
        end
    end
    return total
end

-- Ranks of the first member behind a cursor that is in the span, and of the last one in the span, newest first.
local function ranks(index, cursor_score, cursor_member, after, before)
    local first = count_passed(index, cursor_score, cursor_member)
    if before then
        first = math.max(first, redis.call('ZCOUNT', index, format_score(before), '+inf'))
    end
    if not after and not before then
        return first, math.huge
    end
    return first, redis.call('ZCOUNT', index, after and format_score(after) or '(-inf', '+inf') - 1
end

-- Walks one index: no member's score is needed.
local function walk_one(index, first, final, most)
    local members, at = {}, 0
    return function()
        at = at + 1
        if not members[at] and first <= final then
            members = redis.call('ZREVRANGE', index, first, math.min(first + most - 1, final))
            first, at = first + most, 1
        end
        return members[at], index
    end
end

-- Walks several indexes, each of which is in order already.
local function walk_several(parts, most)
    local function fill(part)
        part.flat, part.at = {}, 1
        if part.first <= part.final then
            local last = math.min(part.first + most - 1, part.final)
            part.flat = redis.call('ZREVRANGE', part.index, part.first, last, 'WITHSCORES')
            part.first = part.first + most
        end
        part.score = part.flat[1] and number(part.flat[2])
    end

    for _, part in ipairs(parts) do
        fill(part)
    end
    return function()
        local best
        for i = 1, #parts do
            local one = parts[i]
            if one.score and (not best or one.score > best.score or (one.score == best.score
                    and precedes(best.flat[best.at], one.flat[one.at]))) then
                best = one
            end
        end
        if not best then
            return nil
        end
        local member, at = best.flat[best.at], best.at + 2
        best.at, best.score = at, best.flat[at] and number(best.flat[at + 1])
        if not best.score then
            fill(best)
        end
        return member, best.index
    end
end

-- A function that gives the next member behind a cursor out of the union of the indexes of KEYS, from the second on, and
-- the index that it is of; nil when none is left in the span. 'most' is how many of them are read at once.
local function walk(cursor_score, cursor_member, after, before, most)
    local parts = {}
    for k = 2, #KEYS do
        local first, final = ranks(KEYS[k], cursor_score, cursor_member, after, before)
        parts[k - 1] = {index = KEYS[k], first = first, final = final}
    end
    if #parts == 1 then
        return walk_one(parts[1].index, parts[1].first, parts[1].final, most)
    end
    return walk_several(parts, math.ceil(most / #parts) + 10)
end

-- Score and member, which is where a cursor stands; empty for none.
local function place(member, index)
    return member and {redis.call('ZSCORE', index, member), member} or {}
end
