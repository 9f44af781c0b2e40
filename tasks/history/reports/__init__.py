"""The usage report: its charts, its page, and where it is shown."""
