"""The contract with Redis: keys, fields, indexes, streams and scripts. Imported by clients and refresher."""
