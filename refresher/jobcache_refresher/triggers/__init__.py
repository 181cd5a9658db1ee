"""What is due and where to look: schedule, requests of clients, events of the filesystem."""
