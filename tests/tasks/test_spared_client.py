"""What Prefect's client in a job does not load, and does not ask."""

import subprocess
import sys

import pytest

from tasks.settings import child_environment

# In a process of its own: Prefect reads its settings when it is imported.
SPARED = """
from tasks.settings import spare_the_client
spare_the_client()
import ssl
import certifi
from prefect.settings import PREFECT_API_SSL_CERT_FILE, get_current_settings
file = PREFECT_API_SSL_CERT_FILE.value() or certifi.where()
loaded = ssl.create_default_context(cafile=file).cert_store_stats()["x509"]
print("one" if loaded == 1 else "all", get_current_settings().client.server_version_check_enabled)
"""


@pytest.mark.parametrize(
    ("given", "loaded"),
    [
        ({"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, "one False"),
        ({"PREFECT_API_URL": "https://prefect.example/api"}, "all False"),
        ({"PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "true"}, "all True"),
    ],
)
def test_the_client_loads_certificates_where_there_is_something_to_check(
    given: dict[str, str], loaded: str
) -> None:
    environment = child_environment(**given)
    command = [sys.executable, "-c", SPARED]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split("\n")[0] == loaded
