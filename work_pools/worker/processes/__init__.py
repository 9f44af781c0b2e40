"""The processes of a worker's jobs, most of them forks."""
