"""Fork servers: a process that has imported the jobs' libraries forks a process for each run."""
