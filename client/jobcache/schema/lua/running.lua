-- Running jobs with a fresh heartbeat, unordered.
-- KEYS: meta, the index of running jobs.
-- ARGV: epoch and generation in which the reader was answered last; whether it still knows that answer ('1' or '');
--   how many jobs are told of at most, and of how many the fields; what stands before an id to make it a key.
-- Returns: {header, ids, jobs}, a job being {revision, fields} (see the prelude), those of the first ids; the header alone
--   where the reader knows the rest.

local head = header(KEYS[1])
if ARGV[3] == '1' and is_known(head, ARGV[1], ARGV[2]) then
    return {head}
end

local since = known_since(head, ARGV[1], ARGV[2])
local most, most_with_fields, job_prefix = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local oldest = fresh_since(KEYS[1])
local ids = {}
if oldest then
    ids = redis.call('ZRANGEBYSCORE', KEYS[2], format_score(oldest), '+inf')
end
local jobs, with_fields = {}, 0
for i = 1, math.min(#ids, most) do
    jobs[i] = read_job(job_prefix .. ids[i], since)
    if #jobs[i] == 2 then
        with_fields = with_fields + 1
        if with_fields == most_with_fields then
            since = math.huge
        end
    end
end
return {head, ids, jobs}
