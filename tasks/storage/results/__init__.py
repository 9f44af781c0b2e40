"""Results: staged, published exactly once, read back and checked."""
