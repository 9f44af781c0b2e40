"""The usage report: its charts, its page, and its publication."""
