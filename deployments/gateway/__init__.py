"""The gateway: people and programs submit jobs and follow them over REST, each with a token.

Prefect's API has one password, and who has it may run anything on the machine. The gateway holds
that password; its users can do what a user of Prefecture may, on the jobs that their token allows.
"""
