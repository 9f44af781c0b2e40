"""The environment of all tests. It is set before Prefect is imported, and reads its settings."""

import os

PASSWORD = "admin:the password of the tests"
"""User and password of every server that a test starts, and of every client."""

os.environ["PREFECT_SERVER_API_AUTH_STRING"] = os.environ["PREFECT_API_AUTH_STRING"] = PASSWORD
# A client without an address would start a server, which has 20 s to answer.
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
