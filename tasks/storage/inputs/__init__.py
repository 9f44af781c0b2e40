"""Inputs: the files that a source names, on a disk or in S3."""
