"""Queries about jobs and compute tasks; they change nothing on the server."""
