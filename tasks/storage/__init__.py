"""What the settings name as storage, opened: S3 with its credentials, and the results root."""
