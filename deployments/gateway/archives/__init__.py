"""Folders that are uploaded as a tar archive: read as it arrives, whole or not there."""
