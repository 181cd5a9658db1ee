-- Some jobs.
-- KEYS: meta. ARGV: the generation after which fields are wanted; what stands before an id to make it a key; count of
--   fields and the fields; the ids.
-- Returns: {header, jobs}, a job being {revision, fields} (see the prelude)

local since, job_prefix, count = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local fields = {unpack(ARGV, 4, 3 + count)}
local jobs = {}
for i = 4 + count, #ARGV do
    jobs[#jobs + 1] = read_job(job_prefix .. ARGV[i], since, fields)
end
return {header(KEYS[1]), jobs}
