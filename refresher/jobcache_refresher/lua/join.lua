-- Go on with an epoch that another refresher wrote to. A replica that was promoted may lack its last writes: their
-- generations must not come again with other contents, so a leap leaves them out.
-- KEYS: lease, meta. ARGV: the lease's value, the epoch, how far to leap. Returns: {generation}

local refusal = refuse(ARGV[1], ARGV[2])
if refusal then
    return refusal
end
return {(advance(KEYS[2], ARGV[3]))}
