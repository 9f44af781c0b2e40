"""The broker: lets a job make the few requests to the Docker engine that it needs, and no others.

A program of the host, beside each worker of the pool `docker`. The containers of run-container and
generate-data have its socket where they would otherwise have the engine's. It speaks a part of the
engine's API, so Docker's client works with it. It writes each request to the engine itself.
"""
