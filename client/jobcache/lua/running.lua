-- Running jobs with a fresh heartbeat, unordered.
-- KEYS: meta, the index of running jobs.
-- ARGV: most jobs to read; the generation after which fields are wanted; what stands before an id to make it a key;
--   the fields to read.
-- Returns: {header, ids, jobs}, a job being {revision, fields} (see the prelude); no jobs when the ids are too many.

local most, since, job_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local fields = {unpack(ARGV, 4)}
local oldest = fresh_since(KEYS[1])
local ids = {}
if oldest then
    ids = redis.call('ZRANGEBYSCORE', KEYS[2], format_score(oldest), '+inf')
end
local jobs = {}
if #ids <= most then
    for i, id in ipairs(ids) do
        jobs[i] = read_job(job_prefix .. id, since, fields)
    end
end
return {header(KEYS[1]), ids, jobs}
