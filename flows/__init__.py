"""One file, one flow: what users can run."""
