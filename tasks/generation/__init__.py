"""The task generate-data: containers that run together for some time, and print to a topic."""
