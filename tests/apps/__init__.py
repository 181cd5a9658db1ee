"""Applications that tests run under gunicorn. They use the cache when imported: with --preload before the fork."""
