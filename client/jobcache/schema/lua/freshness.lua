-- How fresh the cache is.
-- KEYS: meta. Returns: {header}

return {header(KEYS[1])}
