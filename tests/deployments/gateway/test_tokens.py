"""The tokens of the gateway's users."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.gateway.users.tokens import FILE, USUAL, Scope, Tokens
from tasks.errors import InvalidPayload, OperatorError


def test_a_token_is_found_by_its_whole_text(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    text = tokens.add("anna")
    tokens.add("bob")
    found = tokens.find(text)
    assert found is not None
    assert (found.user, found.scopes, found.tag) == ("anna", USUAL, "user:anna")
    for other in ("", "prefecture", text[:-1], f"{text}x", text.replace("prefecture_", "x_", 1)):
        assert tokens.find(other) is None, other


def test_the_file_is_private_and_has_no_secret(tmp_path: Path) -> None:
    home = tmp_path / "home"
    text = Tokens(home).add("anna")
    file = home / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert text.split("_", 2)[2] not in file.read_text()


def test_other_programs_see_a_change_at_once(tmp_path: Path) -> None:
    served = Tokens(tmp_path)
    assert served.find("prefecture_0_0") is None
    text = Tokens(tmp_path).add("anna")
    assert served.find(text) is not None
    Tokens(tmp_path).revoke("anna")
    assert served.find(text) is None


def test_tokens_that_are_added_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        texts = [*threads.map(Tokens(tmp_path).add, ["anna"] * 40)]
    tokens = Tokens(tmp_path)
    assert all(tokens.find(text) for text in texts)


def test_one_token_of_a_user_is_revoked_by_its_id_and_all_by_the_name(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    first, second, other = (tokens.add(user) for user in ("anna", "anna", "bob"))
    assert [each.user for each in tokens.revoke(first.split("_")[1])] == ["anna"]
    assert tokens.find(first) is None
    assert tokens.find(second)
    tokens.revoke("anna")
    assert tokens.find(second) is None
    assert tokens.find(other)
    with pytest.raises(InvalidPayload, match="there is no token 'anna'"):
        tokens.revoke("anna")


def test_an_expired_token_is_none(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    text = tokens.add("anna", lasts=timedelta(0))
    assert tokens.find(text) is None
    assert tokens.all()[0].is_expired


@pytest.mark.parametrize("user", ["", "Anna", "anna smith", "-anna", "a" * 64, "anna\n", "../x"])
def test_names_that_are_no_users(tmp_path: Path, user: str) -> None:
    with pytest.raises(InvalidPayload, match="no name for a user"):
        Tokens(tmp_path).add(user)


@pytest.mark.parametrize(
    ("own", "allowed"),
    [
        (Scope.SUBMIT, {Scope.SUBMIT}),
        (Scope.READ_OWN, {Scope.READ_OWN}),
        (Scope.READ_ALL, {Scope.READ_OWN, Scope.READ_ALL}),
        (Scope.OPERATE, set(Scope)),
    ],
)
def test_what_a_scope_implies(tmp_path: Path, own: Scope, allowed: set[Scope]) -> None:
    tokens = Tokens(tmp_path)
    found = tokens.find(tokens.add("anna", [own]))
    assert found is not None
    assert {scope for scope in Scope if found.allows(scope)} == allowed


@pytest.mark.parametrize("damaged", ["", "[{", '{"a": 1}', '[{"id": "x"}]'])
def test_a_damaged_file_is_named(tmp_path: Path, damaged: str) -> None:
    text = Tokens(tmp_path).add("anna")
    (tmp_path / FILE).write_text(damaged)
    with pytest.raises(OperatorError, match=r"tokens\.json is no file of tokens"):
        Tokens(tmp_path).find(text)
