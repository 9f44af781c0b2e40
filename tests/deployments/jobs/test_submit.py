"""What is refused before anything reaches the server; the rest needs one: tests/integration."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.cli.jobs import submit_many
from deployments.jobs.request import (
    Terms,
    check_queue,
    job_limits,
    one_line,
    parse_payload,
    refuse_templates,
)
from deployments.pools import TREE
from tasks.contracts import Pool, Queue
from tasks.errors import InvalidPayload

KEY = "__prefect_kind"
TEMPLATE = {KEY: "jinja", "template": "{{ 7 * 7 }}"}


@pytest.mark.parametrize("queue", ["high", "normal", "low", *Queue])
def test_our_queues_pass(queue: str) -> None:
    check_queue(queue)


@pytest.mark.parametrize("queue", ["", "hihg", "High", " high", "high ", "high\n", "default"])
def test_typo_in_a_queue_is_refused_with_the_choice(queue: str) -> None:
    with pytest.raises(InvalidPayload, match="choose high, normal, low") as refused:
        check_queue(queue)
    assert f"'{queue}'" in str(refused.value)


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"payload": TEMPLATE}, "payload"),
        ({"payload": {"source": TEMPLATE}}, "payload.source"),
        ({"payload": {"sources": ["a", TEMPLATE]}}, "payload.sources.1"),
        ({"payload": {"sources": [[{"x": ("a", TEMPLATE)}]]}}, "payload.sources.0.0.x.1"),
        ({"payload": {}, "results_directory": TEMPLATE}, "results_directory"),
        ({"payload": {KEY: None}}, "payload"),
        (TEMPLATE, "payload"),
    ],
)
def test_template_is_refused_wherever_it_stands(parameters: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        refuse_templates(parameters, "")
    assert str(refused.value) == f"{path}: the key {KEY} is not allowed"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"payload": {"source": KEY}},
        {"payload": {"source": "{{ 7 * 7 }}", "sources": [KEY, 1, None, True, 2.5]}},
        {"payload": {"prefect_kind": 1, f"{KEY}_": 2, KEY.upper(): 3}},
    ],
)
def test_only_the_key_itself_is_refused(parameters: dict[str, Any]) -> None:
    refuse_templates(parameters, "")


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", '"x"', "null"])
def test_a_payload_is_a_json_object(text: str) -> None:
    assert parse_payload('{"upper_bound": 10}') == {"upper_bound": 10}
    with pytest.raises(InvalidPayload, match="the payload is not "):
        parse_payload(text)


@pytest.mark.parametrize("text", ['{"a": %s}' % ("1" * 5000), '{"a": ' + "[" * 100_000])
def test_a_payload_that_cannot_be_read_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^line 7: the payload is not JSON: ") as refused:
        parse_payload(text, "line 7: ")
    assert "\n" not in str(refused.value)


def test_a_payload_that_cannot_be_sent_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    payloads: list[dict[str, Any]] = [{"source": "\ud800"}, {"n": float("nan")}, {"n": 1j}, endless]
    for payload in payloads:
        with pytest.raises(InvalidPayload, match=r"^the payload is not JSON: "):
            Terms("find-primes", "x").parameters(payload)
    good = {"source": "höhere/日本", "n": [1, 0.1]}
    assert Terms("find-primes", "x").parameters(good)["payload"] == good


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "find-primes/low"}, "task: .* the task alone, such as 'find-primes'"),
        ({"task": "\udcff"}, "task: "),
        ({"name": "\udcff"}, "name: "),
        ({"tags": ["good", "bad\n"]}, "tags: "),
    ],
)
def test_terms_that_cannot_be_sent_are_refused(asked: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {"task": "find-primes", "results_directory": "x"}
    with pytest.raises(InvalidPayload, match=f"^{said}") as refused:
        Terms(**usual | asked)
    assert str(refused.value).isprintable()


def test_a_line_that_is_wrong_is_named_before_the_server_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    file.write_text('{"upper_bound": 10}\n\n{"upper_bound": \n')
    with pytest.raises(InvalidPayload, match=r"^line 3: the payload is not JSON: "):
        submit_many("find-primes", file, "bulk")


def test_many_jobs_go_to_low_where_no_queue_is_named() -> None:
    usual, named = Terms("find-primes", "x"), Terms("find-primes", "x", "normal")
    assert usual.for_many(10_000, None).in_queue == usual.for_many(9, 9).in_queue == "normal"
    assert usual.for_many(10, 9).in_queue == "low"
    assert named.for_many(10, 9).in_queue == "normal"


def test_limits_that_are_given_become_job_variables() -> None:
    assert job_limits(None, None) == {}
    assert job_limits(1, None) == {"max_duration": 1}
    assert job_limits(None, "1g") == {"mem_limit": "1g"}


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_is_no_time_limit(seconds: int) -> None:
    with pytest.raises(InvalidPayload, match="less than 1 second"):
        job_limits(seconds, None)


@pytest.mark.parametrize("pool", Pool)
def test_the_longest_time_limit_is_the_pools_own(pool: Pool) -> None:
    template = json.loads((TREE / "work_pools" / f"{pool}.json").read_text())
    longest = template["variables"]["properties"]["max_duration"]["maximum"]
    assert job_limits(longest, None) == {"max_duration": longest}
    with pytest.raises(InvalidPayload, match="more than a year"):
        job_limits(longest + 1, None)


@pytest.mark.parametrize("memory", ["", "0m", "512", "512M", "1.5g", "-1g", "512m\n", " 1g", "g"])
def test_memory_is_a_number_and_a_unit(memory: str) -> None:
    with pytest.raises(InvalidPayload, match="is not a number and k, m or g"):
        job_limits(None, memory)


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
documents = st.recursive(
    leaves | st.builds(dict[str, Any], st.just([(KEY, "json")])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def holds_template(value: object) -> bool:
    return f"'{KEY}':" in repr(value)


@given(documents)
def test_any_depth_is_searched(value: object) -> None:
    if holds_template(value):
        with pytest.raises(InvalidPayload):
            refuse_templates(value, "")
    else:
        refuse_templates(value, "")


def test_empty_tag_is_refused() -> None:
    for tag in ("", "  "):
        with pytest.raises(InvalidPayload, match="tags: one is empty"):
            Terms("find-primes", "numbers", tags=["user:anna", tag])


def test_a_job_has_no_more_tags_than_an_event_can_name() -> None:
    tags = [f"t{number}" for number in range(51)]
    assert Terms("find-primes", "numbers", tags=tags[:50])
    with pytest.raises(InvalidPayload, match="tags: 51 are more than the 50"):
        Terms("find-primes", "numbers", tags=tags)


def test_file_without_a_payload_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    file.write_text("\n  \n")
    with pytest.raises(InvalidPayload, match=r"payloads\.jsonl holds no payload"):
        submit_many("find-primes", file, "numbers")


HUGE = "x" * 600_000


@pytest.mark.parametrize(
    "terms",
    [
        {"task": f"a/{HUGE}"},
        {"task": f"\n{HUGE}"},
        {"tags": HUGE},
        {"tags": [f"\n{HUGE}"]},
        {"name": f"\n{HUGE}"},
        {"queue": HUGE},
        {"memory": HUGE},
        {"results_directory": HUGE},
        {"results_directory": f"/{HUGE}"},
    ],
)
def test_message_does_not_repeat_what_is_large(terms: dict[str, Any]) -> None:
    given: dict[str, Any] = {"task": "find-primes", "results_directory": "numbers"} | terms
    with pytest.raises(InvalidPayload) as refused:
        Terms(**given)
    assert len(str(refused.value)) < 600


def test_refusal_of_a_large_payload_names_the_field_and_the_reason() -> None:
    said = (
        f"Error creating flow run: Validation failed for field 'payload.source': {HUGE} is too long"
    )
    line = one_line(said)
    assert len(line) < 500
    assert line.startswith("Validation failed for field 'payload.source'")
    assert line.endswith("is too long")
