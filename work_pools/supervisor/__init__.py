"""Keeps a pool's jobs alive: one process beside each worker; any number of them may run."""
