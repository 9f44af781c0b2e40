"""Questions about jobs and compute tasks, answered from the server; nothing is changed."""
