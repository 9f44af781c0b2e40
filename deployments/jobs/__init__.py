"""Jobs: submit, find with all attempts, follow, cancel, restart, delete, schedule, read results."""
