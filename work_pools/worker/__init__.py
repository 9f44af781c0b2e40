"""Prefect's own workers, made prompt, and with standby instances."""
