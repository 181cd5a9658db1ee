-- Some jobs.
-- KEYS: meta. ARGV: epoch and generation after which fields are wanted; what stands before an id to make it a key; the
--   ids.
-- Returns: {header, jobs}, a job being {revision, fields} (see the prelude)

local head = header(KEYS[1])
local since, job_prefix = known_since(head, ARGV[1], ARGV[2]), ARGV[3]
local jobs = {}
for i = 4, #ARGV do
    jobs[i - 3] = read_job(job_prefix .. ARGV[i], since)
end
return {head, jobs}
