"""The supervisor: one process beside each worker, which restarts crashed jobs and cleans up."""
