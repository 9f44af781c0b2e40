"""Images for containers of jobs: found, pulled or built, and the same for every attempt."""
