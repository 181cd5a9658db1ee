-- Running jobs with a fresh heartbeat, unordered.
-- KEYS: meta, the index of running jobs.
-- ARGV: most rows to fill in; what stands before an id to make it a key; the fields to read.
-- Returns: {header, ids, rows}, a row being the values of the fields; no rows when the ids are too many.

local most, job_prefix = tonumber(ARGV[1]), ARGV[2]
local since = fresh_since(KEYS[1])
local ids = {}
if since then
    ids = redis.call('ZRANGEBYSCORE', KEYS[2], format_score(since), '+inf')
end
local rows = {}
if #ids <= most then
    for i, id in ipairs(ids) do
        rows[i] = redis.call('HMGET', job_prefix .. id, unpack(ARGV, 3))
    end
end
return {header(KEYS[1]), ids, rows}
