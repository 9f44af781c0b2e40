"""What every HTTP server of ours does: where it listens, and what it admits."""
