"""The containers or processes of attempts on this host."""
