"""What makes a flow run an attempt at a job: its checks, its states, its events, its result."""
