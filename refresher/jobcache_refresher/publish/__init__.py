"""From the fields of jobs to Redis: differences, fenced writes, lease, deletions for clients, another leader's jobs."""
