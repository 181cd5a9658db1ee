-- Prelude of reads of jobs; the line before it names the fields that are read of each (see jobcache.codec).

-- What is read of a job: its revision, and its fields as well if it was written after a generation (a reader has the
-- rest from before); nothing when there is no such job.
local function read_job(job, since)
    local revision = redis.call('HGET', job, JOB.rev)
    if not revision then
        return {}
    end
    if tonumber(revision) <= since then
        return {revision}
    end
    return {revision, redis.call('HMGET', job, unpack(JOB_FIELDS))}
end
