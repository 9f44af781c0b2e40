"""Settings come from the environment, refuse what is unsafe, and let no secret through."""

import ast
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.cli import main
from deployments.local import docker_engine
from tasks import settings
from tasks.contracts import S3Address
from tasks.settings import (
    Settings,
    child_environment,
    client_environment,
    job_environment,
    own_environment,
    server_environment,
)

ROOT = Path(__file__).parents[2]
PREFIX = "PREFECTURE_"

# Who may be given what: any child, a client of the API (a worker hands it on to jobs), the server.
CHILD, CLIENT, SERVER = child_environment, client_environment, server_environment
EVERYWHERE = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("REQUESTS_CA_BUNDLE", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
    "DOCKER_CONTEXT",
)
CLIENTS = (
    *("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
    *("PREFECT_API_SSL_CERT_FILE", "PREFECT_CLIENT_CUSTOM_HEADERS"),
)
SERVERS = (
    "PREFECT_SERVER_DATABASE_PASSWORD",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_ENCRYPTION_KEY",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_API_AUTH_STRING",
)
NOWHERE = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN"),
    *("PGPASSWORD", "DATABASE_URL", "PYTHONPATH", "LD_PRELOAD", "PREFECT_HOME", "PREFECT_PROFILE"),
    *("PREFECT__FLOW_RUN_ID", "PREFECT_LOGGING_LEVEL", "PREFECT_ENCRYPTION_KEY", "SECRET"),
    *("PREFECTURE_HOME", "PREFECTURE_S3_CREDENTIALS", "path", "XPATH"),
)
# Prefect still reads the server's database settings under these older names, which begin like a
# client's: settings/models/server/database.py.
OLD_SERVER_NAMES = ("PREFECT_API_DATABASE_PASSWORD", "PREFECT_API_DATABASE_CONNECTION_URL")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing of the machine that runs the tests, and a home of our own."""
    for name in list(os.environ):
        if name not in ("PYTEST_CURRENT_TEST", "PYTEST_VERSION"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    settings.get_settings.cache_clear()
    yield
    settings.get_settings.cache_clear()


def test_defaults_stand_in_the_home(tmp_path: Path) -> None:
    default = Settings()
    assert default.home == tmp_path / ".prefecture"
    assert default.inputs == tmp_path / ".prefecture" / "inputs"
    assert default.results == tmp_path / ".prefecture" / "results"
    assert (default.s3_credentials, default.image) == (None, None)
    assert default.base_image is None
    assert 1 <= default.cpus <= 2
    assert default.memory == "2g"
    uid, _, gid = default.user.partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_roots_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECTURE_INPUTS_ROOT", "photos")
    monkeypatch.setenv("PREFECTURE_RESULTS_ROOT", "~/out")
    assert Settings().inputs == tmp_path / "photos"
    assert Settings().results == tmp_path / "out"


@pytest.mark.parametrize(
    ("place", "address", "key"),
    [
        ("s3://bucket", S3Address("bucket", ""), "d/k"),
        ("s3://bucket/", S3Address("bucket", ""), "d/k"),
        ("s3://my.bucket-1/team/a b/", S3Address("my.bucket-1", "team/a b"), "team/a b/d/k"),
    ],
)
def test_results_may_stand_in_s3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, address: S3Address, key: str
) -> None:
    monkeypatch.setenv("PREFECTURE_RESULTS_ROOT", place)
    there = Settings()
    assert there.results == address
    assert address.key("d", "k") == key
    assert S3Address.parse(str(address)) == address, "jobs get the place as this text"
    assert there.written == there.scratch == tmp_path / ".prefecture" / "scratch"
    monkeypatch.setenv("PREFECTURE_SCRATCH", str(tmp_path / "disk"))
    given = job_environment(Settings())
    assert given["PREFECTURE_RESULTS_ROOT"] == str(address)
    assert given["PREFECTURE_SCRATCH"] == str(tmp_path / "disk")


@pytest.mark.parametrize(
    ("results", "uploads", "is_refused"),
    [
        ("s3://bucket/results", "s3://bucket/uploads", False),
        ("s3://bucket/team", "s3://bucket/teams", False),
        ("s3://bucket", "s3://other", False),
        ("s3://bucket", "s3://bucket/uploads", True),
        ("s3://bucket/team/results", "s3://bucket/team", True),
        ("s3://bucket/team", "s3://bucket/team", True),
        ("~/results", "s3://bucket", False),
        ("~/results", "~/uploads", True),
    ],
)
def test_uploads_may_stand_in_s3_apart_from_results(
    monkeypatch: pytest.MonkeyPatch, results: str, uploads: str, *, is_refused: bool
) -> None:
    assert Settings().uploads_root is None
    monkeypatch.setenv("PREFECTURE_RESULTS_ROOT", results)
    monkeypatch.setenv("PREFECTURE_UPLOADS_ROOT", uploads)
    if is_refused:
        with pytest.raises(ValidationError, match=r"let them be side by side|no place in S3"):
            Settings()
    else:
        assert str(Settings().uploads_root) == uploads


@pytest.mark.parametrize(
    ("names", "image"),
    [
        (("BASE_IMAGE",), "BASE_IMAGE"),
        (("PREFECTURE_BASE_IMAGE",), "PREFECTURE_BASE_IMAGE"),
        (("BASE_IMAGE", "PREFECTURE_BASE_IMAGE"), "PREFECTURE_BASE_IMAGE"),
    ],
)
def test_base_image_goes_by_two_names(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], image: str
) -> None:
    for name in names:
        monkeypatch.setenv(name, name)
    assert Settings().base_image == image


def test_the_network_of_a_host_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}JOB_NETWORK", "host")  # its name in earlier versions
    assert Settings().job_network == "open"


def test_settings_are_read_once_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings.get_settings()
    monkeypatch.setenv("PREFECTURE_MEMORY", "1g")
    assert settings.get_settings() is first
    with pytest.raises(ValidationError):
        first.memory = "3g"  # pyright: ignore[reportAttributeAccessIssue]  # frozen: that is the test


ROOTS = ("HOME", "INPUTS_ROOT", "RESULTS_ROOT", "SCRATCH")
NO_PLACES = (
    *("s3://", "s3:///photos", "s3://B/photos", "s3://b_c/photos", "s3://ab", "s3://-bc/photos"),
    *("s3://bucket//photos", "s3://bucket/../photos", "s3://bucket/.photos", "s3://bucket/a{b}"),
    *("s3://bucket/photos//", "s3://bucket/a\n", "s3://bucket/a\\b"),
)
UNSAFE_ROOTS = (
    "/",
    "/etc",
    "/usr/",
    "//",
    "/etc/../proc",
    "/tmp/..",
    "/a:b",
    "/a{b",
    "/a}",
    "/a\n",
)
BAD = [
    *((root, value) for root in ROOTS for value in (*UNSAFE_ROOTS, "")),
    *(("RESULTS_ROOT", place) for place in NO_PLACES),
    *(("CPUS", value) for value in ("0", "-1", "two", "1.5", "")),
    *(("MEMORY", value) for value in ("2", "2gb", "0g", "g", "-1g", "2G", "1.5g", "2g\n", "")),
    *(("CONTAINER_USER", value) for value in ("0:0", "root", "0:10", "1000", "1000:", "01:1")),
    *(("S3_CREDENTIALS", value) for value in ("photos", "secret/x", "aws-credentials/", "a/b/c")),
    ("S3_CREDENTIALS", "aws-credentials/X"),
    ("JOB_NETWORK", "none"),
    ("JOB_HOSTS", "store.example.org"),
    ("JOB_HOSTS", "store:443b:443"),
]


# The command's parser takes a call without arguments in a test for a mistake; here it is the point.
@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_value_is_refused_in_one_line_naming_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    monkeypatch.setattr(sys, "argv", ["prefecture", "apply"])
    # What stands after the settings in `apply`: reached only by a value that was not refused.
    reached = f"took {value!r}"
    monkeypatch.setattr(docker_engine, "find_engine", lambda: pytest.fail(reached))
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"{PREFIX}{name}: " in lines[0]


@pytest.mark.parametrize(
    ("names", "receivers"),
    [
        (EVERYWHERE, {CHILD, CLIENT, SERVER}),
        (CLIENTS, {CLIENT}),
        (SERVERS, {SERVER}),
        (NOWHERE, set[Callable[..., dict[str, str]]]()),
    ],
    ids=["everywhere", "clients", "server", "nowhere"],
)
def test_variable_reaches_those_that_need_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    receivers: set[Callable[..., dict[str, str]]],
) -> None:
    for name in names:
        monkeypatch.setenv(name, f"value of {name}")
    expected = {name: f"value of {name}" for name in names}
    for environment in (CHILD, CLIENT, SERVER):
        got = environment()
        got.pop("HOME", None) if "HOME" not in names else None
        assert got == (expected if environment in receivers else {})


@pytest.mark.parametrize("name", OLD_SERVER_NAMES)
def test_database_secret_under_its_old_name_reaches_no_worker(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "secret")
    assert "secret" not in client_environment().values()
    assert "secret" not in child_environment().values()


@pytest.mark.parametrize("environment", [CHILD, CLIENT, SERVER])
def test_what_is_given_wins(
    monkeypatch: pytest.MonkeyPatch, environment: Callable[..., dict[str, str]]
) -> None:
    for name in ("PATH", "PREFECT_API_URL", "PREFECT_SERVER_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "from outside")
    given = {"PATH": "given", "PREFECT_API_URL": "given", "PREFECT_SERVER_LOGGING_LEVEL": "given"}
    assert environment(**given) | given == environment(**given)


def test_addresses_of_the_server_reach_none_of_its_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PREFECTURE_DATABASE_URL", "PREFECTURE_REDIS_URL"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PREFECTURE_CPUS", "1")
    assert own_environment() == {"PREFECTURE_CPUS": "1", "HOME": os.environ["HOME"]}


def test_job_environment_holds_what_a_job_needs_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*CLIENTS, *SERVERS, *NOWHERE, *OLD_SERVER_NAMES):
        if not name.startswith(PREFIX):
            monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PREFECTURE_CPUS", "1")
    home = tmp_path / ".prefecture"
    job = {
        "PREFECTURE_INPUTS_ROOT": str(home / "inputs"),
        "PREFECTURE_RESULTS_ROOT": str(home / "results"),
        "PREFECTURE_CPUS": "1",
        "PREFECTURE_SUM_MEMORY": str(2**30),
        "PREFECTURE_COPY_AFTER": "0.75",
        "PREFECTURE_COPY_FACTOR": "1.2",
        "PREFECTURE_COPY_MOST": "0.1",
        "PREFECTURE_COPY_SECONDS": "30.0",
        "PREFECTURE_CONTAINER_OUTPUT": str(10 * 2**30),
        "PREFECTURE_MIN_FREE_DISK": str(2**30),
        "VIPS_CONCURRENCY": "1",
        "PREFECT_CLIENT_MAX_RETRIES": "6",
    }
    assert job_environment(Settings()) == job
    monkeypatch.setenv("PREFECTURE_S3_CREDENTIALS", "aws-credentials/photos")  # a block's name
    block = {"PREFECTURE_S3_CREDENTIALS": "aws-credentials/photos"}
    assert job_environment(Settings()) == job | block


def test_api_url_and_flow_run_id_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.api_url() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "01c1aa32-747f-45b2-9c6f-8f40621e261b")
    assert settings.api_url() == "http://127.0.0.1:4200/api"
    assert str(settings.flow_run_id()) == "01c1aa32-747f-45b2-9c6f-8f40621e261b"


@pytest.mark.parametrize("folder", ["flows", "tasks", "deployments", "work_pools"])
def test_nothing_else_reads_the_environment(folder: str) -> None:
    readers = {"environ", "environb", "getenv", "getenvb"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if (
            # `os.environ`; the environment of another process, as psutil reads it, is no setting.
            isinstance(node, ast.Attribute)
            and node.attr in readers
            and ast.unparse(node.value) == "os"
        )
        or (isinstance(node, ast.ImportFrom) and readers & {name.name for name in node.names})
        if path != ROOT / "tasks" / "settings" / "environment.py"
    ]
    assert found == []
