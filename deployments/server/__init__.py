"""What is added to Prefect's server, and the program that runs it."""
