"""No file that is committed has a key or a password in it, but for the tests' own.

`.secrets.baseline` lists what is known to be none, by hash: examples in the docs, and the passwords
of servers that the tests start. `detect-secrets audit` shows them; make the list anew with

    detect-secrets scan $(git ls-files ':!*.lock') > .secrets.baseline
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from detect_secrets.core import baseline
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

ROOT = Path(__file__).resolve().parents[1]
_KEY = "AKIA" + "Z7VQ2K5T4WJX9R3B"
_PEM = "-----BEGIN RSA " + "PRIVATE KEY-----"

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def known() -> SecretsCollection:
    """What is known to be no secret."""
    return baseline.load(baseline.load_from_file(str(ROOT / ".secrets.baseline")))


def scan(names: Iterable[str]) -> SecretsCollection:
    """What looks like a secret in files of the current folder."""
    found = SecretsCollection()
    with default_settings():
        for name in names:
            found.scan_file(name)
    return found


def lines(found: SecretsCollection) -> list[str]:
    """Each secret's place and kind, not the secret."""
    return [f"{name}:{secret.line_number}: {secret.type}" for name, secret in found]


def test_nothing_committed_is_a_secret(
    known: SecretsCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    listed = subprocess.run(
        ["git", "ls-files", "-z", ":!*.lock", ":!.secrets.baseline"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = scan(listed.stdout.split("\0")[:-1])
    assert not lines(found - known)
    assert not lines(known - found), "these are gone: make .secrets.baseline anew"


def test_a_key_that_is_committed_is_found(
    tmp_path: Path, known: SecretsCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("settings.py").write_text(f'AWS = "{_KEY}"\n')
    Path("host.pem").write_text(f"{_PEM}\nMIIB\n")
    Path("README.md").write_text("postgresql://anna:" + "r3al-one@db.example.org/jobs\n")
    found = scan(["settings.py", "host.pem", "README.md"])
    assert {secret.type for _, secret in found - known} >= {
        "AWS Access Key",
        "Private Key",
        "Basic Auth Credentials",
    }
