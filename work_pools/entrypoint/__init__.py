"""The program of a job's process: Prefect's engine for one flow run."""
