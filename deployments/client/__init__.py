"""Jobs from commands and from Python: by Prefect's API, or through a gateway with a user's token.

One interface, two implementations. Nothing of Prefect is imported by what works through a gateway.
"""
