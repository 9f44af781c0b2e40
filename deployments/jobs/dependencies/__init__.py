"""Jobs that wait for other jobs: what they wait for, and when that is done."""
