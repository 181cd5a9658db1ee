"""Every call as a plan: what is asked of the server and how the reply reads, without the I/O."""
