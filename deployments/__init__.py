"""Putting Prefecture on a Prefect server, and the `prefecture` command."""
