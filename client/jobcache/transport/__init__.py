"""Which server to talk to, and connections to it that keep to a deadline."""
