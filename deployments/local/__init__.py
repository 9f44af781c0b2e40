"""Everything one machine needs, started and stopped as one: server, worker, containers."""
