"""Removes results that have expired, and old uploads: by age, by size, and nothing in use."""
