"""Storage that the settings name: S3 with its credentials, inputs and the results root."""
