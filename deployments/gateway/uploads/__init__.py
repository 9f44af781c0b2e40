"""Files that users upload for their jobs: received on this disk, and kept there or in S3."""
