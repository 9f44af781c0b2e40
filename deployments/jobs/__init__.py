"""Jobs: submitted, found with all their attempts, cancelled, read back."""
