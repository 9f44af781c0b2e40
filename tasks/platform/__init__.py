"""Flows of the platform's own: what they are, and what they tidy."""
