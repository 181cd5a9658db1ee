-- A page of jobs: all members of the disjoint union of some indexes (see the prelude), from a cursor on.
-- KEYS: meta, then the indexes.
-- ARGV: epoch and generation in which the reader was answered last; whether it still knows that answer ('1' or '');
--   limit; score and member of the cursor ('' for the first page); the span of the scores: from when on, and before
--   when (see the prelude); what stands before a member to make it an id; what stands before an id to make it a key.
-- Returns: {header, rows, score and member of the last row, what follows, total of the union}, a row being {member,
--   {revision, fields}} (see the prelude), and what follows 'more' or 'none'; the header alone where the reader knows the
--   rest.

local head = header(KEYS[1])
if ARGV[3] == '1' and is_known(head, ARGV[1], ARGV[2]) then
    return {head}
end

local since, limit = known_since(head, ARGV[1], ARGV[2]), tonumber(ARGV[4])
local after, before = read_time(ARGV[7], KEYS[1]), read_time(ARGV[8], KEYS[1])
local member_prefix, job_prefix = ARGV[9], ARGV[10]
local total = count_members(after, before)
if limit == 0 then
    return {head, {}, {}, 'none', total}
end

local take_next = walk(ARGV[5], ARGV[6], after, before, limit + 1)
local rows, last, last_index, member, index = {}, nil, nil, take_next()
while member and #rows < limit do
    rows[#rows + 1] = {member, read_job(job_prefix .. member_prefix .. member, since)}
    last, last_index = member, index
    member, index = take_next()
end
return {head, rows, place(last, last_index), member and 'more' or 'none', total}
