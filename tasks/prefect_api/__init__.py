"""What is said once of Prefect's API: pages, transient errors, the runs of jobs, the clock."""
