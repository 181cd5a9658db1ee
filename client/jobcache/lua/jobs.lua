-- Some jobs.
-- KEYS: meta. ARGV: epoch and generation after which fields are wanted; what stands before an id to make it a key; count
--   of fields and the fields; the ids.
-- Returns: {header, jobs}, a job being {revision, fields} (see the prelude)

local head = header(KEYS[1])
local since, job_prefix, count = known_since(head, ARGV[1], ARGV[2]), ARGV[3], tonumber(ARGV[4])
local fields = {unpack(ARGV, 5, 4 + count)}
local jobs = {}
for i = 5 + count, #ARGV do
    jobs[#jobs + 1] = read_job(job_prefix .. ARGV[i], since, fields)
end
return {head, jobs}
