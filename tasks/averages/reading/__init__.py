"""Reads numbers from files of several formats, and sums them exactly."""
