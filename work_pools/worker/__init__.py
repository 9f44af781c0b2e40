"""Prefect's own workers, made prompt, and with containers started ahead."""
