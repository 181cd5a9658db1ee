"""From the status directory to the fields of a job: tree, discovery, reading, parsing."""
