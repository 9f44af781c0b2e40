"""Tokens of runs: only the server's own, for the run and the time that they name."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tasks.prefect_api import run_tokens

RUN, PASSWORD = uuid4(), "admin:a password"


def test_a_token_names_its_run() -> None:
    token = run_tokens.make(RUN, PASSWORD)
    assert run_tokens.is_token(token)
    assert run_tokens.run_of(token, PASSWORD) == RUN
    assert PASSWORD not in token


def changed(token: str, part: int, to: str) -> str:
    parts = token.split(".")
    parts[part] = to
    return ".".join(parts)


TOKEN = run_tokens.make(RUN, PASSWORD)


@pytest.mark.parametrize(
    "forged",
    [
        run_tokens.make(RUN, "admin:another password"),
        run_tokens.make(RUN, PASSWORD, datetime.now(UTC) - timedelta(days=31)),
        changed(TOKEN, 0, f"run:{uuid4()}"),
        changed(TOKEN, 1, str(2**40)),
        changed(TOKEN, 1, "soon"),
        changed(TOKEN, 2, ""),
        changed(TOKEN, 2, "é"),
        TOKEN.replace("run:", "admin:"),
        TOKEN[:-1],
        "run:",
        "run:...",
        "",
        PASSWORD,
    ],
    ids=range(13),
)
def test_what_is_no_token_of_this_server(forged: str) -> None:
    assert run_tokens.run_of(forged, PASSWORD) is None
