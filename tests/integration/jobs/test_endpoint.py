"""The endpoint that makes many jobs at once: what it leaves is what Prefect's own leaves."""

import json
import subprocess
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from deployments import submit_many
from tasks.settings import get_settings
from tests.support.platform import (
    BIN,
    Platform,
    pause,
    platform_up,
    rest,
    wait_until,
)
from tests.support.servers import stock_server
from tests.support.session.tiers import thorough
from tests.tasks.history.postgres import new_database, postgres_server

PARAMETERS = {"payload": {"upper_bound": 10}, "results_directory": "endpoint"}
TERMS = {"tags": ["mine"], "job_variables": {"max_duration": 77}}
# Of two runs that are otherwise the same.
OWN = {
    *("id", "created", "updated", "name", "idempotency_key", "state_id", "state_timestamp"),
    *("expected_start_time", "next_scheduled_start_time"),
}
OWN_OF_STATE = {"id", "created", "updated", "timestamp", "flow_run_id"}


@pytest.fixture(scope="module", params=["sqlite", thorough("postgresql")])
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[Platform, sa.Engine]]:
    """A Prefecture none of whose jobs starts, and the database of its server."""
    home = tmp_path_factory.mktemp("endpoint")
    if request.param == "sqlite":
        with platform_up(home, "process") as platform, pause(platform):
            yield platform, reading(f"sqlite:///{home}/prefect/prefect.db")
        return
    with postgres_server(home) as server:
        address = f"{server}{new_database(server)}"
        url = address.replace("postgresql:", "postgresql+asyncpg:")
        settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        with platform_up(home / "up", "process", settings=settings) as platform, pause(platform):
            yield platform, reading(address.replace("postgresql:", "postgresql+psycopg:"))


def reading(address: str) -> sa.Engine:
    return sa.create_engine(address, poolclass=sa.NullPool)


def create(
    platform: Platform, *keys: str, parameters: Any = PARAMETERS, **other: Any
) -> httpx.Response:
    jobs = [{"parameters": parameters, "idempotency_key": key} for key in keys]
    path = f"/deployments/{platform.deployment('find-primes/low')}/create_jobs"
    return platform.rest("POST", path, {"jobs": jobs, **TERMS, **other})


def by_prefect(platform: Platform, key: str) -> str:
    """A job on the same terms, made by Prefect's own endpoint."""
    body = {"parameters": PARAMETERS, "idempotency_key": key, **TERMS}
    path = f"/deployments/{platform.deployment('find-primes/low')}/create_flow_run/bulk"
    (made,) = platform.rest("POST", path, [body]).json()["results"]
    return made["flow_run_id"]


def row(engine: sa.Engine, table: str, column: str, value: str) -> dict[str, Any]:
    """The one row of a table that has this id in a column."""
    with engine.connect() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM {table}")).mappings().all()
    (found,) = [one for one in rows if str(one[column]) == value]
    return {name: plain(name, held) for name, held in found.items()}


def plain(name: str, held: Any) -> Any:
    """SQLite keeps JSON as text; the order of tags is not said."""
    if name in ("tags", "state_details", "labels") and isinstance(held, str):
        held = json.loads(held)
    return sorted(held) if name == "tags" else held


def without(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    assert names <= set(row)
    return {name: held for name, held in row.items() if name not in names}


def test_the_rows_are_those_of_prefect(stored: tuple[Platform, sa.Engine]) -> None:
    platform, engine = stored
    theirs = by_prefect(platform, "row: theirs")
    (ours,) = create(platform, "row: ours").json()
    runs = [row(engine, "flow_run", "id", id) for id in (theirs, ours)]
    assert without(runs[0], OWN) == without(runs[1], OWN)
    states = [row(engine, "flow_run_state", "flow_run_id", id) for id in (theirs, ours)]
    details = [state.pop("state_details") for state in states]
    assert without(states[0], OWN_OF_STATE) == without(states[1], OWN_OF_STATE)
    assert [each.pop("flow_run_id") for each in details] == [theirs, ours]
    due = [each.pop("scheduled_time") for each in details]
    assert details[0] == details[1]
    for run, state, moment in zip(runs, states, due, strict=True):
        assert run["state_id"] == state["id"]
        assert run["state_timestamp"] == state["timestamp"]
        assert run["expected_start_time"] == run["next_scheduled_start_time"]
        shown = platform.rest("GET", f"/flow_runs/{run['id']}").json()
        assert shown["expected_start_time"] == moment


def test_the_events_are_those_of_prefect(stored: tuple[Platform, sa.Engine]) -> None:
    platform, _ = stored
    ids = [by_prefect(platform, "event: theirs"), *create(platform, "event: ours").json()]

    def look() -> list[dict[str, Any]] | None:
        found = [event for id in ids for event in events(platform, id)]
        return found if len(found) == 2 else None

    theirs, ours = wait_until(look, what="both events")
    for name in ("event", "payload", "follows"):
        assert theirs[name] == ours[name]
    related = [sorted(map(json.dumps, event["related"])) for event in (theirs, ours)]
    assert related[0] == related[1]
    own = {f"prefect.resource.{name}" for name in ("id", "name")} | {"prefect.state-timestamp"}
    assert without(theirs["resource"], own) == without(ours["resource"], own)
    assert ours["id"] == platform.run(ids[1])["state_id"]  # pyright: ignore[reportArgumentType]


def events(platform: Platform, run: str) -> list[dict[str, Any]]:
    body = {"resource": {"id": [f"prefect.flow-run.{run}"]}}
    return platform.rest("POST", "/events/filter", {"filter": body}).json()["events"]


def test_a_key_names_one_job(stored: tuple[Platform, sa.Engine]) -> None:
    platform, _ = stored
    known = by_prefect(platform, "key: known")
    first, second, third, again = create(
        platform, "key: new", "key: known", "key: other", "key: new"
    ).json()
    assert (second, again) == (known, first)
    assert len({first, second, third}) == 3
    assert create(platform, "key: other", "key: new").json() == [third, first]


def test_all_or_none(stored: tuple[Platform, sa.Engine]) -> None:
    platform, _ = stored

    def count() -> int:
        return platform.rest("POST", "/flow_runs/count", {}).json()

    before = count()
    refused = create(platform, "none", job_variables={"max_duration": "long"})
    assert refused.status_code == 422
    assert "max_duration" in refused.text
    assert create(platform, *map(str, range(501))).status_code == 422
    assert create(platform).status_code == 422
    large = create(platform, "none", parameters={"payload": "x" * 2**19})
    assert large.status_code == 422
    assert "must be less than 524,288 bytes" in large.text
    assert create(platform, "none", work_queue_name="high").status_code == 422
    nowhere = "/deployments/00000000-0000-0000-0000-000000000000/create_jobs"
    body: dict[str, Any] = {"jobs": [{"parameters": {}, "idempotency_key": "none"}]}
    assert platform.rest("POST", nowhere, body).status_code == 404
    assert count() == before


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """The API of a server of Prefect's own, whose address is in the environment of this process."""
    with stock_server(tmp_path) as api:
        monkeypatch.setenv("PREFECT_API_URL", api)
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
        monkeypatch.setenv("PREFECTURE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("DO_NOT_TRACK", "1")
        get_settings.cache_clear()
        yield api
    get_settings.cache_clear()


@pytest.mark.thorough
def test_a_server_of_prefects_own_is_asked_as_it_can_be(stock: str) -> None:
    applied = subprocess.run(
        [str(BIN / "prefecture"), "apply", "--pool", "process"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    payloads = [{"upper_bound": bound} for bound in range(2, 132)]
    jobs = submit_many("find-primes", payloads, "stock", key="stock")
    assert submit_many("find-primes", payloads, "stock", key="stock") == jobs
    body = {"flows": {"name": {"any_": ["find-primes"]}}, "limit": 200}
    body |= {"sort": "NEXT_SCHEDULED_START_TIME_ASC"}
    runs = rest(stock, "POST", "/flow_runs/filter", body).json()
    assert [run["id"] for run in runs] == [str(job.id) for job in jobs]
