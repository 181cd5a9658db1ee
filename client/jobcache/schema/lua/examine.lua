-- How some keys are made, and how some jobs stand, each in the same step as its index entries.
-- KEYS: meta.
-- ARGV: the prefix of every key; count of keys, and the keys without prefix; count of the fields to read of each job, and
--   the fields; count of jobs, then for each the key of its hash without prefix, count of index entries and (index,
--   member) for each.
-- Returns: {header, keys, standings}: of a key {type, milliseconds it has to live or -1, members of a sorted set}, of a
--   job {values, count of fields, scores}; '!' stands for a wrong type.

local prefix = take()
local made = {}
for i = 1, take_count() do
    local key = prefix .. take()
    made[i] = {
        redis.call('TYPE', key).ok,
        redis.call('PTTL', key),
        unless_wrong(redis.pcall('ZCARD', key)),
    }
end
local fields = {}
for i = 1, take_count() do
    fields[i] = take()
end
local standings = {}
for i = 1, take_count() do
    standings[i] = take_standing(prefix, fields)
end
return {header(KEYS[1]), made, standings}
