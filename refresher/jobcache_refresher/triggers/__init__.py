"""Hints of where to look, out of the file system's events."""
