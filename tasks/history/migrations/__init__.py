"""The history's schema, step by step, and how a database is brought up to it."""
