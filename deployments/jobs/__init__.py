"""Jobs: handed in, found with all their attempts, cancelled, read back."""
