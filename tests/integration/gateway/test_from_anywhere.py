"""The commands of a user on another machine, which has an address and a token and nothing else."""

import json
from collections.abc import Generator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.support.platform import Platform, pause
from tests.support.web.gateway import Gateway, gateway_up
from tests.support.web.laptop import Laptop, files_of, laptop_of

SHORT = '{"upper_bound": 100}'
FIRST = f"first-{uuid4()}"


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    with gateway_up(process_platform.home, process_platform.api) as gateway:
        yield gateway


@pytest.fixture
def anna(gateway: Gateway, tmp_path: Path) -> Laptop:
    return laptop_of(gateway, tmp_path / "anna", "anna")


def test_a_folder_of_the_laptop_becomes_a_result_there(
    anna: Laptop, process_platform: Platform
) -> None:
    numbers = anna.folder / "numbers"
    (numbers / "more").mkdir(parents=True)
    (numbers / "one.csv").write_text("1\n2\n")
    (numbers / "more" / "two.csv").write_text("3\n4\n")
    (numbers / ".hidden").write_text("no number")
    words = ("submit", "average-files", '{"source": "numbers", "also": ["csv"]}', "means")
    submitted = anna.run(*words, "--key", "once")
    assert submitted.returncode == 0, submitted.stderr
    assert "numbers is uploaded, 2 files, 8 bytes: users/anna/uploaded/numbers-" in submitted.stderr
    job = submitted.stdout.strip()
    assert f"job {job} Completed: " in anna.done("watch", job)
    stored = process_platform.completed(UUID(job), "means")
    listed = anna.done("results", job)
    assert "means.csv" in listed
    assert "not checked" in listed
    assert "all checked" in anna.done("results", job, "--to", "fetched")
    assert files_of(anna.folder / "fetched") == files_of(stored)
    assert [path.name for path in anna.folder.iterdir() if path.name.startswith(".")] == []
    assert "is not an empty folder" in anna.refused("results", job, "--to", "fetched")

    again = anna.run(*words, "--key", "once")
    assert again.stdout.strip() == job, "the same content is the same job"
    assert "numbers was uploaded before" in again.stderr
    (numbers / "one.csv").write_text("5\n6\n")
    taken = anna.run(*words, "--key", "once")
    assert "key 'once' names job" in taken.stderr, "other content is another source"
    assert "numbers is uploaded" in taken.stderr


def test_many_jobs_with_files_globs_and_names_of_the_server(
    anna: Laptop, process_platform: Platform
) -> None:
    for name, content in (("a.csv", "1\n"), ("b.csv", "3\n"), ("c.txt", "no number")):
        (anna.folder / name).write_text(content)
    (process_platform.inputs / "shared").mkdir(exist_ok=True)
    (process_platform.inputs / "shared" / "d.csv").write_text("7\n")
    sources = ["a.csv", "*.csv", "shared/d.csv", str(anna.folder / "b.csv"), "a.csv"]
    lines = "\n".join(json.dumps({"source": source}) for source in sources)
    submitted = anna.run("submit-many", "average-files", "-", "several", given=lines)
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stderr.count(" uploaded") == 3, submitted.stderr
    jobs = [UUID(line) for line in submitted.stdout.split()]
    for job, files in zip(jobs, (1, 2, 1, 1, 1), strict=True):
        manifest = process_platform.manifest(job, "several")
        assert manifest["summary"]["files"] == files
    payload = '{"source": "./nothing"}'
    line = anna.refused("submit", "average-files", payload, "several")
    assert "'./nothing' names no file or folder of this machine" in line


def test_every_command_for_users(anna: Laptop, process_platform: Platform) -> None:
    assert "find-primes" in anna.done("tasks")
    assert "upper_bound" in anna.done("tasks", "find-primes")
    assert "there is no compute task 'sums'" in anna.refused("submit", "sums", "{}", "x")
    assert "upper_bound" in anna.refused("submit", "find-primes", '{"upper_bound": 1}', "x")
    with pause(process_platform):
        job = anna.done("submit", "find-primes", SHORT, "every", "--tag", FIRST).strip()
        waiting = anna.done("explain", job)
        assert "queue normal, directory every" in waiting
        assert "is paused" in waiting
        after = anna.done("submit", "find-primes", SHORT, "every", "--after", job[:23]).strip()
        assert f"waits for job {job} (" in anna.done("explain", after)
        assert anna.done("hold", job).strip() == f"job {job} is held"
        assert anna.done("move", "low", job).strip() == f"job {job} is in the queue low now"
        assert "at the end of its queue" in anna.done("release", job)
        assert "queue 'x'" in anna.refused("move", "x", job)
        assert "it is not held" in anna.refused("release", after)
        anna.done("cancel", after)
        assert anna.done("cancel", job).strip() == f"job {job} is cancelled"
        assert f"job {job} Cancelled" in anna.run("watch", job).stdout
        assert anna.run("watch", job).returncode == 2
    new = anna.done("restart", job[:23]).strip()
    assert new != job
    assert anna.run("watch", new).returncode == 0
    assert "INFO" in anna.done("logs", new, "--follow")
    listed = json.loads(anna.done("jobs", "--tag", FIRST, "--json"))
    assert {each["job"]: each["state"] for each in listed} == {new: "completed", job: "cancelled"}
    assert "--limit 0 lists all" in anna.done("jobs", "--tag", FIRST, "--limit", "1")
    ends = [json.loads(line) for line in anna.done("inbox", "--json").splitlines()]
    assert {"job": new, "outcome": "completed"}.items() <= ends[-1].items()
    assert new in anna.done("inbox").splitlines()[-1]
    assert "there is nothing to cancel" in anna.refused("cancel", new)
    deleted = anna.run("delete", "--tag", FIRST, "--directory", "every", "--yes")
    assert deleted.stdout.count("is deleted") == 2, deleted.stderr
    assert anna.done("jobs", "--tag", FIRST) == "no job matches\n"
    assert "no job" in anna.refused("explain", job)


def test_a_schedule_from_the_laptop(anna: Laptop) -> None:
    (anna.folder / "daily.csv").write_text("1\n2\n")
    words = ("schedule", "add", "average-files", '{"source": "daily.csv"}', "daily")
    own = ("--name", "daily", "--tag", "mine", "--timezone", "Europe/Berlin")
    wrong = ("schedule", "add", "find-primes", SHORT, "daily", "--cron", "soon")
    assert "is no cron line" in anna.refused(*wrong)
    added = anna.run(*words, "--cron", "0 0 1 1 *", *own)
    assert added.stdout == "daily\n", added.stderr
    assert "daily.csv is uploaded" in added.stderr
    assert anna.done("schedule", "pause", "daily") == "schedule daily is paused\n"
    (listed,) = json.loads(anna.done("schedule", "list", "--json"))
    assert (listed["name"], listed["active"], listed["user"]) == ("daily", False, "anna")
    assert "Europe/Berlin" in anna.done("schedule", "list")
    assert anna.done("schedule", "remove", "daily") == "schedule daily is removed\n"
    assert "there is no schedule 'daily'" in anna.refused("schedule", "resume", "daily")


def test_python_the_same_without_prefect(anna: Laptop) -> None:
    (anna.folder / "one.csv").write_text("1\n2\n")
    printed = anna.python(
        "import sys\n"
        "from deployments import find_job, submit, submit_many\n"
        "job = submit('average-files', {'source': 'one.csv'}, 'python')\n"
        "assert find_job(job.id).wait().status == 'Completed'\n"
        "print(job.results(to='fetched').location, job.progress().fraction)\n"
        "two = submit_many('find-primes', [{'upper_bound': n} for n in (10, 20)], 'python')\n"
        "assert len({each.wait().id for each in two}) == 2\n"
        "assert not {'prefect', 'sqlalchemy'} & {*sys.modules}\n"
    )
    assert printed == "fetched 1.0\n"
    assert (anna.folder / "fetched" / "means.parquet").is_file()


def test_a_login_is_kept_for_its_user_alone(anna: Laptop, gateway: Gateway, tmp_path: Path) -> None:
    token = anna.variables["PREFECTURE_TOKEN"]
    (tmp_path / "new" / "work").mkdir(parents=True)
    new = Laptop(tmp_path / "new")
    file = new.home / ".config" / "prefecture" / "gateway.json"
    for wrong, line in ((token[:-1], "the token is wrong"), ("", "no token"), ("a b", "is none")):
        assert line in new.refused("login", gateway.url, given=wrong)
        assert not file.exists()
    assert "no address of a gateway" in new.refused("login", "example.org", given=token)
    said = new.run("login", f"{gateway.url}/v1/", given=f"{token}\n")
    assert f"anna at {gateway.url}, kept in {file}" in said.stdout
    assert token not in said.stdout + said.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert "find-primes" in new.done("tasks")
    for words in (["status"], ["token", "add", "bob"], ["up"], ["stats"]):
        line = new.refused(*words)
        assert f"`prefecture {words[0]}` needs the operator's connection" in line
        assert "`prefecture logout`" in line
    assert new.run("status", "--help").returncode == 0
    away = new.with_set(PREFECTURE_URL="http://127.0.0.1:1")
    assert "no token is known for the gateway at http://127.0.0.1:1" in away.refused("jobs")
    away = away.with_set(PREFECTURE_TOKEN=token)
    assert "the gateway at http://127.0.0.1:1 does not answer" in away.refused("jobs")
    assert new.done("logout") == f"logged out of {gateway.url}\n"
    assert not file.exists()
    assert new.done("logout") == "there was no login\n"
    alone = new.with_set(PREFECTURE_TOKEN=token)
    assert "PREFECTURE_URL is not" in alone.refused("jobs")


def test_a_job_of_another_user_is_not_there(
    anna: Laptop, gateway: Gateway, tmp_path: Path, process_platform: Platform
) -> None:
    bob = laptop_of(gateway, tmp_path / "bob", "bob")
    job = anna.done("submit", "find-primes", SHORT, "private").strip()
    process_platform.completed(UUID(job), "private")
    for command in ("watch", "logs", "results", "explain", "cancel", "restart", "delete"):
        assert f"there is no job {job} that this token may see" in bob.refused(command, job)
    assert "no job's id begins with" in bob.refused("explain", job[:13])
    revoked = bob.with_set(PREFECTURE_TOKEN=f"{bob.variables['PREFECTURE_TOKEN']}x")
    assert "`prefecture login`" in revoked.refused("jobs")
