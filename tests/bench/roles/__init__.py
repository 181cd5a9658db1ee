"""What the processes of a bench run do: one module a role, each importing only what such a process would."""
