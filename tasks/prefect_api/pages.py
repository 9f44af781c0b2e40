"""The most that Prefect's API gives in one answer."""

PAGE = 200
"""Flow runs, logs, deployments, variables and all else but events."""
EVENTS_PAGE = 50
"""Events."""
