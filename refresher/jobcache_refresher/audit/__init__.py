"""Whether Redis still holds what was published, and how that is made right."""
