-- One job.
-- KEYS: meta, the job's hash. ARGV: the revision that the reader has ('' for none).
-- Returns: {header, {revision, fields}}, without the fields at that revision, and empty when there is no such job

local revision = redis.call('HGET', KEYS[2], JOB.rev)
if not revision then
    return {header(KEYS[1]), {}}
end
if revision == ARGV[1] then
    return {header(KEYS[1]), {revision}}
end
return {header(KEYS[1]), {revision, redis.call('HMGET', KEYS[2], unpack(JOB_FIELDS))}}
