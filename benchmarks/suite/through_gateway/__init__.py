"""k: the gateway, its page, and the files that go through it."""
