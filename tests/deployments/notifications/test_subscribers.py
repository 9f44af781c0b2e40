"""The file that declares subscribers: what it means, and each way in which it can be wrong."""

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployments.notifications.declaration import read_subscribers
from deployments.notifications.registration import declaration
from deployments.notifications.subscribers import Subscriber, parse_url
from tasks.errors import OperatorError
from tasks.runtime.events import JobCancelled, JobCompleted, JobFailed
from tasks.settings import Settings

TASKS = ("compress-images", "find-primes")
SMTP = "smtp: { host: mail.example.org, from: jobs@example.org }\n"


def completed(task: str = "find-primes", tags: tuple[str, ...] = ()) -> JobCompleted:
    return JobCompleted(
        job=uuid4(),
        task=task,
        name="quick-heron",
        results_directory="primes",
        tags=list(tags),
        ended=datetime.now(UTC),
        attempts=1,
        waited=0.5,
        ran=2.0,
        location="/results/primes",
        files=1,
        bytes=1024,
    )


def otherwise(kind: type[JobFailed] | type[JobCancelled]) -> JobFailed | JobCancelled:
    common = completed().model_dump(exclude={"outcome", "location", "files", "bytes"})
    return kind(**common, reason="a reason")


def read(folder: Path, text: str) -> list[Subscriber]:
    path = folder / "notifications.yaml"
    path.write_text(text)
    return read_subscribers(path, TASKS)


def one(folder: Path, jobs: str = "{}") -> Subscriber:
    [subscriber] = read(
        folder, f"subscribers: [{{name: anna, jobs: {jobs}, to: {{block: slack-webhook/ops}}}}]"
    )
    return subscriber


@pytest.mark.parametrize("text", ["", "subscribers:", "subscribers: []", "# nothing", SMTP])
def test_file_may_declare_nobody(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == []


def test_default_file_declares_nobody() -> None:
    assert read_subscribers(declaration(Settings())) == []


def test_example_in_the_default_file_is_right(tmp_path: Path) -> None:
    text = declaration(Settings()).read_text()
    example = re.sub(r"(?m)^# ?", "", text[text.index("# subscribers:") :])
    example = example.replace("\nsubscribers: []\n", "")
    path = tmp_path / "example.yaml"
    path.write_text(example)
    found = {subscriber.name: subscriber for subscriber in read_subscribers(path)}
    assert list(found) == ["ops", "gallery", "anna:anna@example.org", "submitters"]
    assert [subscriber.at_least_once for subscriber in found.values()] == [False, True, True, True]


def test_subscriber_gets_all_jobs_unless_it_selects_some(tmp_path: Path) -> None:
    everything = one(tmp_path)
    for ended in (completed(), otherwise(JobFailed), otherwise(JobCancelled)):
        assert everything.wants(ended)


@pytest.mark.parametrize(
    ("jobs", "wanted"),
    [
        ("{tasks: [find-primes]}", True),
        ("{tasks: [compress-images]}", False),
        ("{tags: ['user:anna']}", True),
        ("{tags: ['user:bert', 'user:anna']}", True),
        ("{tags: ['user:an']}", False),
        ("{tags: ['user:*']}", True),
        ("{tags: ['team:*']}", False),
        ("{tags: ['*']}", True),
        ("{outcomes: [failed, cancelled]}", False),
        ("{outcomes: [completed]}", True),
        ("{tasks: [find-primes], tags: ['user:anna'], outcomes: [completed]}", True),
        ("{tasks: [find-primes], tags: ['user:bert'], outcomes: [completed]}", False),
    ],
)
def test_jobs_are_those_that_fit_each_field(tmp_path: Path, jobs: str, wanted: bool) -> None:
    assert one(tmp_path, jobs).wants(completed(tags=("user:anna", "urgent"))) is wanted


def test_outcomes_tell_a_failed_job_from_a_cancelled_one(tmp_path: Path) -> None:
    of_failures = one(tmp_path, "{outcomes: [failed]}")
    assert of_failures.wants(otherwise(JobFailed))
    assert not of_failures.wants(otherwise(JobCancelled))


def test_each_recipient_of_an_email_is_a_subscriber_who_needs_no_more_than_is_kept(
    tmp_path: Path,
) -> None:
    text = "subscribers: [{name: team, to: {email: {to: [a@example.org, b@example.org]}}}]\n" + SMTP
    found = read(tmp_path, text)
    assert [subscriber.name for subscriber in found] == ["team:a@example.org", "team:b@example.org"]
    for subscriber, address in zip(found, ["a@example.org", "b@example.org"], strict=True):
        assert subscriber.to.email is not None
        assert subscriber.to.email.to == [address]
        assert subscriber.to.email.smtp.sender == "jobs@example.org"
        assert Subscriber.model_validate_json(subscriber.model_dump_json()) == subscriber


def test_longest_name_and_oddest_address_are_kept(tmp_path: Path) -> None:
    address = f'"a:{"b" * 200}"@example.org'
    declared = {"name": "x" * 64, "to": {"email": {"to": [address]}}}
    [found] = read(tmp_path, yaml.safe_dump({"subscribers": [declared]}) + SMTP)
    assert Subscriber.model_validate_json(found.model_dump_json()) == found


BLOCK = "{block: slack-webhook/ops}"
KEYED = "secret: secret/key"


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{name: anna}", "'anna': to: is missing"),
        (f"{{to: {BLOCK}}}", "subscriber 1: name: is missing"),
        (f"{{name: Anna B, to: {BLOCK}}}", "'Anna B': name: .*lower-case"),
        (f"{{name: {'x' * 65}, to: {BLOCK}}}", "name: .*up to 64"),
        (f"{{name: 'anna:a@b.c', to: {BLOCK}}}", "name: leave out ':'"),
        (f"{{name: no, to: {BLOCK}}}", "False: name: Input should be a valid string"),
        (f"{{name: anna, job: {{}}, to: {BLOCK}}}", "no field 'job': use name, jobs, to"),
        (f"{{name: anna, jobs: {{task: [x]}}, to: {BLOCK}}}", "jobs: .*use tasks, tags, outcomes"),
        (f"{{name: anna, jobs: {{tasks: [find-prime]}}, to: {BLOCK}}}", "no compute task 'find-p"),
        (f"{{name: anna, jobs: {{tasks: []}}, to: {BLOCK}}}", "jobs.tasks: .*at least 1 item"),
        (f"{{name: anna, jobs: {{tasks: find-primes}}, to: {BLOCK}}}", "jobs.tasks: .*valid list"),
        (f"{{name: anna, jobs: {{outcomes: [crashed]}}, to: {BLOCK}}}", "'completed', 'failed'"),
        ("{name: anna, to: {}}", "to: give exactly one of block, webhook, email"),
        ("{name: anna, to: slack}", "to: Input should be"),
        ("{name: anna, to: {slack: ops}}", "no field 'slack': use block, webhook, email"),
        ("{name: anna, to: {block: slack}}", "to.block: 'slack' .*slack-webhook/ops"),
        ("{name: anna, to: {block: secret/key}}", "to.block: .*notification block"),
        (
            f"{{name: anna, to: {{block: a/b, webhook: {{url: 'https://a.b', {KEYED}}}}}}}",
            "exactly one",
        ),
        ("{name: anna, to: {webhook: {url: 'https://a.b'}}}", "to.webhook.secret: is missing"),
        ("{name: anna, to: {webhook: {secret: secret/key}}}", "to.webhook.url: is missing"),
        (
            f"{{name: anna, to: {{webhook: {{url: ftp://a.b, {KEYED}}}}}}}",
            "to.webhook.url: is no address",
        ),
        (f"{{name: anna, to: {{webhook: {{url: 'https://', {KEYED}}}}}}}", "is no address"),
        (f"{{name: anna, to: {{webhook: {{url: 'https://a b/', {KEYED}}}}}}}", "is no address"),
        (f"{{name: anna, to: {{webhook: {{url: 'https://a:99999', {KEYED}}}}}}}", "is no address"),
        (f"{{name: anna, to: {{webhook: {{url: secret/A B, {KEYED}}}}}}}", "no Secret block"),
        ("{name: anna, to: {email: {to: [a@b.c]}}}", "needs a section smtp"),
        (
            f"{{name: anna, every: 1m, to: {BLOCK}}}",
            "every: an automation sends a message for each",
        ),
        (f"{{name: anna, every: soon, to: {BLOCK}}}", "every: 'soon' is not one: .*such as 1m"),
        (f"{{name: anna, every: -1, to: {BLOCK}}}", "every: .*greater than or equal to 0"),
        (f"{{name: anna, every: 25h, to: {BLOCK}}}", "every: .*less than or equal to 86400"),
        ("[anna]", "subscriber 1: must hold fields"),
        ("anna", "subscriber 1: must hold fields"),
    ],
)
def test_wrong_subscriber_is_refused_in_one_line(
    tmp_path: Path, entry: str, complaint: str
) -> None:
    with pytest.raises(OperatorError, match=complaint) as refused:
        read(tmp_path, f"subscribers: [{entry}]")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "notifications.yaml"))


@pytest.mark.parametrize(
    ("every", "seconds"), [("30s", 30), ("1m", 60), ("2h", 7200), ("90", 90), ("0", None)]
)
def test_every_is_seconds(tmp_path: Path, every: str, seconds: float | None) -> None:
    webhook = f"{{url: 'https://a.b', {KEYED}}}"
    entry = f"{{name: anna, every: {every}, to: {{webhook: {webhook}}}}}"
    (found,) = read(tmp_path, f"subscribers: [{entry}]")
    assert found.gathers == seconds
    assert Subscriber.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("email", "complaint"),
    [
        ("{}", "to.email: give either to, or the domains"),
        ("{to: [a@b.c], domains: [b.c]}", "to.email: give either to, or the domains"),
        ("{domains: []}", "to.email.domains: .*at least 1 item"),
        ("{domains: ['@b.c']}", "to.email.domains.0: '@b.c' is not one: use the part behind @"),
        ("{domains: ['*']}", "to.email.domains.0: .*use the part behind @"),
    ],
)
def test_wrong_recipients_are_refused_in_one_line(
    tmp_path: Path, email: str, complaint: str
) -> None:
    with pytest.raises(OperatorError, match=complaint):
        read(tmp_path, f"subscribers: [{{name: anna, to: {{email: {email}}}}}]\n{SMTP}")


def test_recipients_that_jobs_name_are_gathered_for_a_minute(tmp_path: Path) -> None:
    (found,) = read(
        tmp_path, f"subscribers: [{{name: named, to: {{email: {{domains: [B.c]}}}}}}]\n{SMTP}"
    )
    assert (found.domains, found.gathers) == (["b.c"], 60)
    assert Subscriber.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("smtp", "complaint"),
    [
        ("{from: a@b.c}", "smtp.host: is missing"),
        ("{host: m}", "smtp.from: is missing"),
        ("{host: m, from: a@b.c, sender: a@b.c}", "smtp: there is no field 'sender': use host,"),
        ("{host: m, from: anna}", "smtp.from: 'anna' is no e-mail address"),
        ("{host: 'm n', from: a@b.c}", "smtp.host"),
        ("{host: m, from: a@b.c, port: 0}", "smtp.port"),
        ("{host: m, from: a@b.c, tls: ssl}", "smtp.tls"),
        ("{host: m, from: a@b.c, user: u}", "user and password go together"),
        ("{host: m, from: a@b.c, user: u, password: hunter2}", "smtp.password: names no Secret"),
        ("{host: m, from: a@b.c, user: u, password: secret/p, tls: none}", "in clear"),
        ("[m]", "smtp: "),
    ],
)
def test_wrong_mail_server_is_refused_in_one_line(
    tmp_path: Path, smtp: str, complaint: str
) -> None:
    text = f"subscribers: [{{name: anna, to: {{email: {{to: [a@b.c]}}}}}}]\nsmtp: {smtp}"
    with pytest.raises(OperatorError, match=complaint) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["", "anna", "anna@", "@b.c", "a@b@c", "a b@c.d", "a@b.c\r\nBcc: d@e.f", "a@b..c,", "ä@b.c"],
)
def test_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    declared = {"name": "anna", "to": {"email": {"to": [address]}}}
    text = yaml.safe_dump({"subscribers": [declared]}) + SMTP
    with pytest.raises(
        OperatorError, match=r"to\.email\.to\.0: .* is no e-mail address"
    ) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_no_error_shows_a_secret(tmp_path: Path) -> None:
    for webhook in (
        {"url": "https://h.example.org/s3cr3t", "secret": "whsec_s3cr3t"},
        {"url": "https://u:s3cr3t@h.example.org/", "secret": "secret/key"},
        {"url": "https://h.example.org/x#s3cr3t", "secret": "secret/key"},
        {"url": "ftp://u:s3cr3t@h.example.org/s3cr3t?s3cr3t", "secret": "secret/key"},
        {"url": "secret/S3cr3t s3cr3t", "secret": "secret/key"},
        {"url": "s3cr3t", "secret": "secret/key"},
    ):
        text = yaml.safe_dump({"subscribers": [{"name": "anna", "to": {"webhook": webhook}}]})
        with pytest.raises(OperatorError) as refused:
            read(tmp_path, text)
        assert "s3cr3t" not in str(refused.value)


@given(st.text(max_size=80))
def test_address_of_a_webhook_is_taken_or_refused_in_a_short_line(text: str) -> None:
    for value in (text, f"https://{text}"):
        try:
            url = parse_url(value)
        except ValueError as refused:
            assert len(str(refused)) < 400
        else:
            assert url.scheme in ("http", "https")
            assert url.raw_host


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    entry = f"{{name: anna, to: {BLOCK}}}"
    with pytest.raises(OperatorError, match="two subscribers 'anna': rename one"):
        read(tmp_path, f"subscribers: [{entry}, {entry}]")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("subscribers: {", "is no YAML"),
        ("subscribers: [{name: 2026-13-45}]", "is no YAML"),
        ("subscribers: 3", "must be a list"),
        ("subscriber: []", "no section 'subscriber': use subscribers, smtp"),
        ("- name: anna", "must hold fields"),
    ],
)
def test_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(OperatorError, match=complaint) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.yaml", tmp_path, binary):
        with pytest.raises(OperatorError, match=re.escape(str(path))):
            read_subscribers(path)
