"""Users of the gateway: their tokens and sessions, what they may do, and the audit log."""
