"""The password of all servers of the tests: that of the environment, which clients send.

It is set before Prefect is imported, and reads its settings.
"""

import os

PASSWORD = "admin:the password of the tests"
"""User and password of every server that a test starts, and of every client."""

os.environ["PREFECT_SERVER_API_AUTH_STRING"] = os.environ["PREFECT_API_AUTH_STRING"] = PASSWORD
