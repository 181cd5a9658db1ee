-- Totals of everything and of each project, none of them counted job by job.
-- KEYS: meta, the index of all jobs, the index of running jobs, the list of projects, then an index for each status.
-- ARGV: epoch and generation in which the reader was answered last, if it still knows that answer; parts of key names:
--   of a project's index, of its index of running jobs, of its list of groups, and what stands between a project's
--   index and a status; then the statuses.
-- Returns: {header, active chips, totals, {name, totals, groups} for each project, problems}; totals are that of all
--   jobs, of the fresh running ones, then one for each status; the header alone where the reader knows the rest.

local head = header(KEYS[1])
if is_known(head, ARGV[1], ARGV[2]) then
    return {head}
end

local project_prefix, running_prefix, groups_prefix, status_part = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local since = fresh_since(KEYS[1])

local function fresh(index)
    if not since then
        return 0
    end
    return redis.call('ZCOUNT', index, format_score(since), '+inf')
end

-- A status that no job has needs not be asked for in each project.
local totals = {redis.call('ZCARD', KEYS[2]), fresh(KEYS[3])}
local parts = {}
for k = 5, #KEYS do
    local count = redis.call('ZCARD', KEYS[k])
    totals[#totals + 1] = count
    parts[#parts + 1] = count > 0 and status_part .. ARGV[k + 2]
end

local projects = {}
for i, name in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    local index = project_prefix .. name
    local counts = {0, totals[2] > 0 and fresh(running_prefix .. name) or 0}
    for s, part in ipairs(parts) do
        local count = part and redis.call('ZCARD', index .. part) or 0
        counts[s + 2], counts[1] = count, counts[1] + count
    end
    projects[i] = {name, counts, redis.call('ZRANGE', groups_prefix .. name, 0, -1)}
end

local beside = redis.call('HMGET', KEYS[1], META.active_chips, META.problems)
return {head, beside[1], totals, projects, beside[2]}
