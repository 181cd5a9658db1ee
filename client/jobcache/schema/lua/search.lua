-- The jobs of the disjoint union of some indexes (see the prelude) that pass some tests, from a cursor on, as far as one
-- step may look. It is long since every test of a job is made in that step.
-- KEYS: meta, then the indexes.
-- ARGV: as page.lua, then: most members to look at; words in lower case, each of which must be in the id, or, if it begins
--   with a digit, in the SLURM id; projects; groups; statuses, in each case how many and then each, and none for any; whether
--   the heartbeat of a job that runs must be fresh ('live', 'stale' or ''); the span of the start and that of the
--   heartbeat, in each case from when on, and before when.
-- Returns: {header, rows, score and member of the last one passed, what follows}, a row being {member, {revision, fields}}
--   (see the prelude), and what follows 'more' (another one passes the tests), 'none', or 'unknown'; the header alone where
--   the reader knows the rest.

local head = header(KEYS[1])
if ARGV[3] == '1' and is_known(head, ARGV[1], ARGV[2]) then
    return {head}
end

local STEP_SECONDS = 0.003
local MEMBERS_PER_LOOK = 20 -- at the clock
local MEMBERS_PER_READ = 250 -- of an index

-- Redis 7.0 lacks 'os' in scripts; from 7.2 on, TIME stands still in them.
local seconds = rawget(_G, 'os') and os.clock or function()
    local now = redis.call('TIME')
    return now[1] + now[2] / 1e6
end

local began = seconds()
local at = 10

local function take()
    at = at + 1
    return ARGV[at]
end

local function take_list()
    local list = {}
    for i = 1, tonumber(take()) do
        list[i] = take()
    end
    return list
end

-- Values as keys of a table; nil for none.
local function take_set()
    local set
    for _, value in ipairs(take_list()) do
        set = set or {}
        set[value] = true
    end
    return set
end

local since, limit = known_since(head, ARGV[1], ARGV[2]), tonumber(ARGV[4])
local after, before = read_time(ARGV[7], KEYS[1]), read_time(ARGV[8], KEYS[1])
local job_prefix, most = ARGV[10], tonumber(take())
local words, projects, groups, statuses = take_list(), take_set(), take_set(), take_set()
local wanted_beat = take()
local started_after, started_before = read_time(take(), KEYS[1]), read_time(take(), KEYS[1])
local active_after, active_before = read_time(take(), KEYS[1]), read_time(take(), KEYS[1])
local fresh = fresh_since(KEYS[1])
local has_beat_test = wanted_beat ~= '' or active_after or active_before
local has_start_test = started_after or started_before

local function has_wanted_names(id)
    local first = string.find(id, '/', 1, true)
    local second = string.find(id, '/', first + 1, true)
    return (not projects or projects[string.sub(id, 1, first - 1)])
        and (not groups or groups[string.sub(id, first + 1, second - 1)])
end

local function has_wanted_beat(job)
    local values = redis.call('HMGET', job, JOB.heartbeat_at, JOB.status)
    local beat = tonumber(values[1] or '')
    if wanted_beat ~= '' and values[2] == JOB_RUNNING then
        local is_fresh = (beat and fresh and beat >= fresh) or false
        if is_fresh ~= (wanted_beat == 'live') then
            return false
        end
    end
    return is_within(beat, active_after, active_before)
end

local function has_wanted_start(job)
    return is_within(tonumber(redis.call('HGET', job, JOB.started_at) or ''), started_after, started_before)
end

-- Whether each word is in the id, or, if it begins with a digit, in the SLURM id, which is asked for only then.
local function has_words(id, job)
    local path, slurm = string.lower(id), nil
    for i = 1, #words do
        local word = words[i]
        if not string.find(path, word, 1, true) then
            if not string.find(word, '^%d') then
                return false
            end
            slurm = slurm or string.lower(redis.call('HGET', job, JOB.slurm_job_id) or '')
            if not string.find(slurm, word, 1, true) then
                return false
            end
        end
    end
    return true
end

-- Whether a job passes every test, the cheapest first.
local function is_wanted(id)
    local job = job_prefix .. id
    return (not (projects or groups) or has_wanted_names(id))
        and (#words == 0 or has_words(id, job))
        and (not statuses or statuses[redis.call('HGET', job, JOB.status)])
        and (not has_beat_test or has_wanted_beat(job))
        and (not has_start_test or has_wanted_start(job))
end

local take_next = walk(ARGV[5], ARGV[6], after, before, MEMBERS_PER_READ)
local rows, last, last_index, follows = {}, nil, nil, 'unknown'
for looked = 1, most do
    local id, index = take_next()
    if not id then
        follows = 'none'
        break
    end
    if is_wanted(id) then
        if #rows == limit then
            follows = 'more'
            break
        end
        rows[#rows + 1] = {id, read_job(job_prefix .. id, since)}
    end
    last, last_index = id, index
    if looked % MEMBERS_PER_LOOK == 0 and seconds() - began > STEP_SECONDS then
        break
    end
end
return {head, rows, place(last, last_index), follows}
