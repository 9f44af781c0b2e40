"""compose.yaml, as far as it can be known where nothing is pulled: its shape and its secrets."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.utils import exclude_paths

from tests.support.needs import need_compose, need_haproxy
from tests.support.several.topology import ENDS, OF_PROXY, PROGRAMS, REDIS
from tests.support.web.certificates import server_context

TREE = Path(__file__).parents[2]
# Of the Compose specification: the keys that ours uses.
SERVICE = {
    *("image", "command", "environment", "volumes", "healthcheck", "restart", "ports"),
    *("depends_on", "profiles", "build", "init", "hostname", "pid", "entrypoint"),
    "stop_grace_period",
}
SINGLE = (
    *("OFFSETS_TOPIC_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_REPLICATION_FACTOR"),
    "TRANSACTION_STATE_LOG_MIN_ISR",
)
TOP = {"name", "services", "volumes", "x-ours", "x-server", "x-host", "x-head"}
OTHERS = {"postgres", "redis", "proxy"}
PROFILES = {
    "s3": {"storage", "bucket"},
    "kafka": {"kafka"},
    "mail": {"mail"},
    "metrics": {"metrics", "metrics-postgres", "metrics-redis"},
}
OURS = {*PROGRAMS, "bucket"}
# Set by the operator, where they are needed.
OPTIONAL = {
    *("PREFECT_SERVER_ENCRYPTION_KEY", "PREFECTURE_SERVER_HOSTS", "PREFECTURE_S3_CREDENTIALS"),
}
# Where the containers listen, for other containers; and with it, as it must be, without TLS.
LISTENS = ("--host", "0.0.0.0", "--port", "4200", "4280", "--insecure")
PASSWORDS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_API_AUTH_STRING")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((TREE / "compose.yaml").read_text())


def test_it_holds_what_compose_knows(compose: dict[str, Any]) -> None:
    assert compose.keys() == TOP
    services: dict[str, dict[str, Any]] = compose["services"]
    assert services.keys() == OURS | OTHERS | set[str]().union(*PROFILES.values())
    for name, service in services.items():
        assert service.keys() <= SERVICE
        pinned = re.fullmatch(r"[a-z_\d/-]+:(v|RELEASE\.)?[0-9][\w.-]*", service["image"])
        assert pinned or name in OURS, "a version, not `latest`"
        assert "build" in service or name not in OURS
        ends = name in (*ENDS, "bucket")
        assert service["restart"] == ("on-failure" if ends else "unless-stopped")
        for key, value in service.get("environment", {}).items():
            assert isinstance(value, str | int) or key in OPTIONAL
        for mount in service.get("volumes", []):
            place = re.sub(r"^\$\{\w+:-(\w+)\}", r"\1", mount).partition(":")[0]
            assert place in compose["volumes"] or (TREE / place).is_file()
        assert set(service.get("depends_on", {})) <= services.keys()
        for port in service.get("ports", []):
            outside = ("127.0.0.1:", "${PREFECTURE_ADDRESS:-127.0.0.1}:")
            assert port.startswith(outside), "other machines reach it where the operator says so"


def test_compose_itself_takes_it(compose: dict[str, Any], tmp_path: Path) -> None:
    program = need_compose()
    # Debian's Compose is too old for a name in the file.
    (tmp_path / "compose.yaml").write_text(
        yaml.safe_dump({key: value for key, value in compose.items() if key != "name"})
    )
    given = dict.fromkeys(PASSWORDS, "secret")
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    command = [program, "--file", str(tmp_path / "compose.yaml"), "--project-directory", str(TREE)]

    def config(**environment: str) -> subprocess.CompletedProcess[str]:
        asked = [*command, "config"]
        env = known | environment
        return subprocess.run(asked, env=env, capture_output=True, text=True, check=False)

    done = config(**given)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services.keys() == compose["services"].keys()
    assert services["supervisor-2"]["pid"] == "service:worker-2"
    database = services["server-1"]["environment"]["PREFECTURE_DATABASE_URL"]
    assert database == "postgresql://prefect:secret@postgres:5432/prefect"
    for name in PASSWORDS:
        missing = config(**{other: value for other, value in given.items() if other != name})
        assert missing.returncode
        assert f"{name}" in missing.stderr


def test_the_programs_are_those_that_the_tests_run(compose: dict[str, Any]) -> None:
    """tests/support/several starts the same programs, with the same settings."""
    services = compose["services"]
    for name, (command, settings) in PROGRAMS.items():
        words = [word for word in map(by_default, services[name]["command"]) if word not in LISTENS]
        assert words == ["prefecture", *command]
        assert services[name]["environment"].keys() - OPTIONAL == settings - OPTIONAL
        waits_for = services[name].get("depends_on", {})
        for ended in ENDS:
            if ended in waits_for:
                assert waits_for[ended]["condition"] == "service_completed_successfully"
    assert services["proxy"]["environment"].keys() == OF_PROXY
    kept = " ".join(REDIS)
    assert kept in " ".join(services["redis"]["command"])


def test_a_supervisor_sees_the_processes_of_its_worker(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for number in (1, 2):
        worker, supervisor = services[f"worker-{number}"], services[f"supervisor-{number}"]
        assert supervisor["pid"] == f"service:worker-{number}"
        assert supervisor["hostname"] == worker["hostname"] == f"host-{number}"
        assert supervisor["volumes"] == worker["volumes"]


def by_default(word: str) -> str:
    """A word of a command, where the operator sets no variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word)


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
def test_the_proxy_takes_its_configuration(tmp_path: Path, *, has_tls: bool) -> None:
    values = {name: f"127.0.0.1:{port}" for port, name in enumerate(sorted(OF_PROXY), 4200)}
    values["PREFECTURE_CERTIFICATE"] = ""
    if has_tls:
        _, certificate = server_context(tmp_path)
        whole = tmp_path / "head.pem"
        whole.write_text(certificate.read_text() + certificate.with_suffix(".key").read_text())
        values["PREFECTURE_CERTIFICATE"] = str(whole)
    file = str(TREE / "deployments" / "server" / "haproxy.cfg")
    command = [need_haproxy(), "-c", "-f", file]
    for optional in ("PREFECTURE_LISTEN_INSIDE", "PREFECTURE_LISTEN_METRICS"):
        done = subprocess.run(command, env=values, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        values[optional] = ""


def test_a_profile_is_there_on_request_only(compose: dict[str, Any]) -> None:
    profiles = {n: s["profiles"] for n, s in compose["services"].items() if "profiles" in s}
    assert profiles == {name: [profile] for profile, ns in PROFILES.items() for name in ns}


def test_prometheus_reads_the_services(compose: dict[str, Any]) -> None:
    file = TREE / "deployments" / "server" / "prometheus.yaml"
    (mount,) = (m for m in compose["services"]["metrics"]["volumes"] if m.startswith("./"))
    assert TREE / mount.partition(":")[0] == file
    jobs = yaml.safe_load(file.read_text())["scrape_configs"]
    targets = [target for job in jobs for one in job["static_configs"] for target in one["targets"]]
    assert {target.partition(":")[0] for target in targets} <= compose["services"].keys()
    counted = compose["services"]["proxy"]["environment"]["PREFECTURE_LISTEN_METRICS"]
    assert f"proxy{counted}" in targets


def test_the_context_of_its_image_is_the_package() -> None:
    """As the classic builder selects it, which reads no other file than .dockerignore."""
    lines = (TREE / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    context = {*exclude_paths(str(TREE), patterns, "Dockerfile.server")}
    assert {"deployments/server/program.py", "tasks/history/store.py", "prefect.yaml"} <= context
    outside = ("tests", "benchmarks", "docs", ".git", ".venv")
    assert [name for name in context if Path(name).parts[0] in outside] == []


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


def test_no_secret_stands_in_it() -> None:
    text = (TREE / "compose.yaml").read_text()
    for name in PASSWORDS:
        assert f"${{{name}:?" in text, "without it, compose says what is missing"
    assert not re.search(r"(PASSWORD|AUTH_STRING|KEY): (?!\$\{)", text)
