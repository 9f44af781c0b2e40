"""The servers and hosts of compose.yaml, one set a session, to hurt."""

from collections.abc import Generator

import pytest

from tests.chaos.harness.platforms import deploy_trial
from tests.support.several.topology import Topology, topology
from tests.support.web.receiver import Receiver, receiver

SETTINGS = {
    "PREFECTURE_REQUEUE_BACKOFF": "1",
    "PREFECTURE_ALLOW_PRIVATE_WEBHOOKS": "true",
    "PREFECTURE_ANALYTICS": "false",
}
# A machine with much else to do takes minutes to start a job, which then is not lost.
PATIENT = {"PREFECTURE_PENDING_LIMIT": "900", "PREFECTURE_AGENT_TIMEOUT": "300"}


@pytest.fixture(scope="session")
def several(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Topology]:
    """Two API servers, two hosts, and the rest."""
    settings = SETTINGS if request.config.getoption("--chaos") else SETTINGS | PATIENT
    with topology(tmp_path_factory.mktemp("several"), settings) as running:
        deploy_trial(running.platform)
        yield running


@pytest.fixture
def listener() -> Generator[Receiver]:
    with receiver() as running:
        yield running
