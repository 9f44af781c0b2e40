"""generate-data: containers that run together for a while, and their lines brought to a topic."""
