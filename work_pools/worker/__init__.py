"""Prefect's workers, extended: they poll on events, and keep standby containers or processes."""
