"""The `prefecture` command: one thin function for each subcommand."""
