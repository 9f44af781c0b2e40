"""What is refused before anything reaches the server; the rest needs one: tests/integration."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.submit import check_queue, refuse_templates
from tasks.contracts import Queue
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
