"""Notifications about the final state of jobs."""
