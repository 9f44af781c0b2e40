"""What an attempt is on this host: a container, or a process."""
