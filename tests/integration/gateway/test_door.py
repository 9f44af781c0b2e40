"""Who gets through the gateway's door, and how often."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from deployments.gateway.__main__ import LARGEST_BODY
from deployments.gateway.users.access import REFUSED_A_MINUTE
from deployments.gateway.users.tokens import Tokens
from tests.support.platform import Platform, free_port, platform_up, run_command
from tests.support.web.gateway import gateway_up


def test_only_who_has_a_token(process_platform: Platform, tmp_path: Path) -> None:
    with gateway_up(tmp_path, process_platform.api) as gateway:
        tokens = Tokens(gateway.home)
        text = tokens.add("anna")
        revoked = tokens.add("anna")
        tokens.revoke(revoked.split("_")[1])
        for token in (None, "x", text[:-1], revoked):
            with gateway.client(token) as stranger:
                answer = stranger.get("/jobs")
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        with gateway.client(text) as anna:
            assert anna.get("/jobs").is_success
            rebound = anna.get("/jobs", headers={"Host": "rebound.example.org"})
            assert rebound.status_code == 421
            foreign = anna.get("/jobs", headers={"Origin": "http://example.org"})
            assert foreign.status_code == 403
            large = anna.post("/jobs", content=b" " * (LARGEST_BODY + 1))
            assert large.status_code == 413
        with gateway.client("wrong") as stranger:
            # As many as it takes: on a busy machine, the first may be a minute ago.
            answers = (stranger.get("/me") for _ in range(10 * REFUSED_A_MINUTE))
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert int(refused.headers["retry-after"]) > 0
        with gateway.client(text) as anna:
            assert anna.get("/me").is_success, "a user with a token is still answered"
        assert text not in gateway.audit
        assert gateway.audit.count('"status": 401') >= REFUSED_A_MINUTE
        assert '"status": 429' not in gateway.audit, "a flood does not fill the disk"


def test_users_that_ask_too_often_wait(process_platform: Platform) -> None:
    settings = {"PREFECTURE_GATEWAY_RATE": "3"}
    with gateway_up(process_platform.home, process_platform.api, **settings) as gateway:
        with gateway.user("anna") as anna, gateway.user("anna") as also_anna:
            first = [user.get("/me").status_code for user in (anna, also_anna, anna, also_anna)]
            assert first == [200, 200, 200, 429]
            answer = anna.get("/me")
            assert "more than 3 requests a minute" in answer.json()["detail"]
            assert 0 < int(answer.headers["retry-after"]) <= 60
        with gateway.user("bob") as bob:
            assert bob.get("/me").is_success


def test_a_server_that_is_away_is_said_without_its_address(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/api"
    with (
        gateway_up(tmp_path, nobody, PREFECT_CLIENT_MAX_RETRIES="0") as gateway,
        gateway.user("anna") as anna,
    ):
        answer = anna.get("/tasks")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert nobody not in answer.text


def test_no_token_is_sent_in_readable_form_unless_the_operator_insists(
    process_platform: Platform,
) -> None:
    environment = process_platform.environment | {"PREFECTURE_BIND": "127.0.0.2"}
    refused = run_command("prefecture", "gateway", "--port", str(free_port()), env=environment)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--insecure" in refused.stderr


def test_a_port_that_is_in_use_is_named(process_platform: Platform) -> None:
    taken = str(process_platform.port)
    refused = process_platform.command("prefecture", "gateway", "--port", taken)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"127.0.0.1:{taken} is in use" in refused.stderr


def test_the_commands(home: Path) -> None:
    def token(*words: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"PREFECTURE_HOME": str(home)}
        return run_command("prefecture", "token", *words, env=env)

    made = token("add", "zoe", "--scope", "read-all", "--expires", "2w")
    text = made.stdout.strip()
    assert text.startswith("prefecture_")
    listed = token("list").stdout
    assert "zoe" in listed
    assert "read-all" in listed
    as_json = token("list", "--json").stdout
    assert '"user": "zoe"' in as_json
    for output in (listed, as_json):
        assert text.split("_", 2)[2] not in output
        assert "digest" not in output
    revoked = token("revoke", "zoe").stdout
    assert revoked == f"token {text.split('_')[1]} of zoe is revoked\n"
    for words, line in (
        (("revoke", "zoe"), "there is no token 'zoe'"),
        (("add", "Zoe Z"), "no name for a user"),
        (("add", "zoe", "--expires", "soon"), "--expires 'soon'"),
    ):
        refused = token(*words)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert line in refused.stderr


@pytest.mark.thorough
def test_up_has_one(home: Path) -> None:
    port = free_port()
    with platform_up(home, "process", settings={"PREFECTURE_GATEWAY_PORT": str(port)}) as platform:
        assert f"gateway  http://127.0.0.1:{port}/v1" in platform.output
        token = Tokens(home).add("anna")
        answer = httpx.get(
            f"http://127.0.0.1:{port}/v1/tasks", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.is_success
        assert platform.stop() == 0
        assert "Traceback" not in (home / "logs" / "gateway.log").read_text()
        environment = platform.environment | {"PREFECTURE_GATEWAY_PORT": str(platform.port)}
        same = run_command("prefecture", "up", "--port", str(platform.port), env=environment)
        assert same.returncode == 1
