-- One job.
-- KEYS: meta, the job's hash. ARGV: the fields to read.
-- Returns: {header, values of the fields}

return {header(KEYS[1]), redis.call('HMGET', KEYS[2], unpack(ARGV))}
