"""Every call as a query: what is asked of the server and how the reply reads, without the I/O."""
