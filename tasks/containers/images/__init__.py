"""The image that a job runs: found, pulled or built, and the same at every attempt."""
