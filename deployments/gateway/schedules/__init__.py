"""Schedules of users: the gateway submits the same job at each time of a cron line.

They are in a file of the home, beside the tokens that they depend on. A schedule of Prefect's own
would give its jobs neither the tag of their user nor a key, ask for no quota, and take jobs that
wait with it when it is deleted. No job depends on the file.
"""
