"""compose.yaml, as far as it can be known where nothing is pulled: its shape and its secrets."""

import re
from pathlib import Path
from typing import Any

import prefect
import pytest
import yaml

TREE = Path(__file__).parents[2]
# Of the Compose specification: the keys that ours uses.
SERVICE = {
    *("image", "command", "environment", "volumes", "healthcheck", "restart", "ports"),
    *("depends_on", "profiles"),
}
SINGLE = (
    *("OFFSETS_TOPIC_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_REPLICATION_FACTOR"),
    "TRANSACTION_STATE_LOG_MIN_ISR",
)
TOP = {"name", "services", "volumes"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((TREE / "compose.yaml").read_text())


def test_it_holds_what_compose_knows(compose: dict[str, Any]) -> None:
    assert compose.keys() == TOP
    services: dict[str, dict[str, Any]] = compose["services"]
    assert services.keys() == {"postgres", "server", "kafka"}
    for service in services.values():
        assert service.keys() <= SERVICE
        assert re.fullmatch(r"[a-z/]+:[0-9][\w.-]*", service["image"]), "a version, not `latest`"
        for value in service["environment"].values():
            assert isinstance(value, str | int)
        for mount in service.get("volumes", []):
            assert mount.partition(":")[0] in compose["volumes"]
        assert set(service.get("depends_on", {})) <= services.keys()
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "whoever wants more opens it"


def test_the_broker_is_there_on_request_only(compose: dict[str, Any]) -> None:
    profiles = {name: s.get("profiles") for name, s in compose["services"].items()}
    assert profiles == {"postgres": None, "server": None, "kafka": ["kafka"]}


def test_the_broker_is_one_node_that_clients_here_reach(compose: dict[str, Any]) -> None:
    service = compose["services"]["kafka"]
    settings = service["environment"]
    assert settings["KAFKA_PROCESS_ROLES"] == "broker,controller", "KRaft: no ZooKeeper"
    controller = settings["KAFKA_CONTROLLER_LISTENER_NAMES"]
    listeners = {
        name: address.rpartition(":")[2]
        for name, _, address in (
            listener.partition("://") for listener in settings["KAFKA_LISTENERS"].split(",")
        )
    }
    node = settings["KAFKA_NODE_ID"]
    voters = f"{node}@127.0.0.1:{listeners[controller]}"
    assert settings["KAFKA_CONTROLLER_QUORUM_VOTERS"] == voters
    protocols = settings["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    assert {protocol.partition(":")[0] for protocol in protocols} == listeners.keys()
    # Where it says that it is must be where its port is.
    name, _, address = settings["KAFKA_ADVERTISED_LISTENERS"].partition("://")
    assert service["ports"] == [f"{address}:{listeners[name]}"]
    assert {settings[f"KAFKA_{key}"] for key in SINGLE} == {1}, "there is no second copy"
    (mount,) = service["volumes"]
    assert mount.partition(":")[2] == settings["KAFKA_LOG_DIRS"], "what it keeps stays"


def test_no_secret_stands_in_it(compose: dict[str, Any]) -> None:
    text = (TREE / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "PREFECT_PASSWORD"):
        assert f"${{{name}:?" in text, "without it, compose says what is missing"
    assert not re.search(r"PASSWORD: (?!\$\{)", text)


def test_the_server_is_the_version_that_jobs_run_with(compose: dict[str, Any]) -> None:
    assert compose["services"]["server"]["image"].startswith(
        f"prefecthq/prefect:{prefect.__version__}-"
    )
