"""The files of a new compute task."""
