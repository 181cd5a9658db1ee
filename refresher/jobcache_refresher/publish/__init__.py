"""From the fields of jobs to Redis: differences, fenced writes, and the audit of what was written."""
