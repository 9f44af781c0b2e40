"""Inputs: what a source names, on a disk or in S3."""
