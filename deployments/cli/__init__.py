"""The `prefecture` command: thin, one function a command."""
