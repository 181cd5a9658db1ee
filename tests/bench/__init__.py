"""Benchmarks: jobcache against a faithful copy of the design it replaces, in the same run."""
