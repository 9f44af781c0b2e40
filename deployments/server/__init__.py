"""Prefecture's additions to Prefect's server, and the program that runs it."""
