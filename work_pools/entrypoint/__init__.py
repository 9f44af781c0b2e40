"""What a job's process runs: Prefect's engine for one flow run."""
