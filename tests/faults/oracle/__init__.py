"""The fault oracle: random edits of a status directory against random faults, with readers polling all the while.

``python -m tests.faults.oracle --seed N`` runs one seed. A seed is one server with a replica, two refreshers (real
processes, behind a proxy that can misbehave) and a few rounds. In a round a producer edits the tree while faults
strike; then both rest, and the cache must come to say what the tree says. What is held to be true:

(a) a job on disk for longer than the freshness bound is never missing from a ``ready`` view;
(b) nothing is deleted that was not removed, and nothing at all while the status directory cannot be believed;
(c) generations only grow within an epoch, and epochs never come back, for as long as one server is the primary;
(d) every index entry resolves, every job is indexed, every count is right, at any moment;
(e) once the faults are over, the view equals the tree within the freshness bound;
(f) every read ends within its deadline;
(g) a token that lost its lease changes nothing;
(h) what a client deleted stays away, and an answer is only refused while a fault can explain it.

A **failover** promotes a replica that was cut off for a while: what the primary wrote since is lost. New connections
lead to the promoted one, those through a proxy are cut; the old primary, killed or stopped, comes back as a replica.
Only once it was told so its answers count again: nobody but itself can keep an old primary from answering.

**The freshness bound** is two polls, the settle time and a slack for a loaded machine, counted in *unhindered* time. A
fault hinders from its beginning until its end and its aftermath: what the contract grants for getting over it (a lease
that must run out, an exchange that must time out, a process that must start). See ``timing``, ``faults`` and ``world``.
"""
