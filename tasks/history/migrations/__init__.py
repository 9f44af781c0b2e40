"""Migrations of the run history's schema."""
