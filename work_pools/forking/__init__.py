"""Fork servers: a process that has imported what jobs import forks one process for each run."""
