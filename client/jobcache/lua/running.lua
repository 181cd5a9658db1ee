-- Running jobs with a fresh heartbeat, unordered.
-- KEYS: meta, the index of running jobs.
-- ARGV: epoch and generation in which the reader was answered last; whether it still knows that answer ('1' or '');
--   most jobs to read; what stands before an id to make it a key.
-- Returns: {header, ids, jobs}, a job being {revision, fields} (see the prelude); no jobs when the ids are too many; the
--   header alone where the reader knows the rest.

local head = header(KEYS[1])
if ARGV[3] == '1' and is_known(head, ARGV[1], ARGV[2]) then
    return {head}
end

local since, most, job_prefix = known_since(head, ARGV[1], ARGV[2]), tonumber(ARGV[4]), ARGV[5]
local oldest = fresh_since(KEYS[1])
local ids = {}
if oldest then
    ids = redis.call('ZRANGEBYSCORE', KEYS[2], format_score(oldest), '+inf')
end
local jobs = {}
if #ids <= most then
    for i, id in ipairs(ids) do
        jobs[i] = read_job(job_prefix .. id, since)
    end
end
return {head, ids, jobs}
