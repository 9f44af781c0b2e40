"""Starts and stops all programs of one machine together: server, worker, containers."""
