"""The reason of a job that did not reach a host says what to list, in a closed network alone."""

import socket

import pytest

from tasks.errors import StorageUnavailable, TopicUnavailable
from tasks.runtime.unreached import with_cure
from tasks.settings import REACHED_VARIABLE

CURE = "list this one as name:port in PREFECTURE_JOB_HOSTS, or set PREFECTURE_JOB_NETWORK=open"


def refused() -> Exception:
    """The error of a connection behind that of a library."""
    try:
        try:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        except OSError as error:
            raise RuntimeError("the query failed") from error
    except RuntimeError as error:
        return error


S3 = 'cannot be read: Could not connect to the endpoint URL: "http://127.0.0.1:9000/photos"'
UNREACHED = [
    StorageUnavailable(S3),
    TopicUnavailable("topic kafka://10.0.0.1:9092/clicks: no broker answers: Local: Timed out"),
    ConnectionRefusedError(111, "Connection refused"),
    OSError(101, "Network is unreachable"),
    refused(),
]


@pytest.mark.parametrize("error", UNREACHED, ids=str)
def test_a_host_that_was_not_reached_is_to_be_listed(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert with_cure(str(error), error) == str(error)
    monkeypatch.setenv(REACHED_VARIABLE, "")
    assert with_cure(str(error), error) == (f"{error}: jobs reach listed hosts alone: {CURE}")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("127.0.0.1:9000=20001", S3),
        ("s3.example.org:443=20001", "could not connect to https://s3.example.org/photos"),
        ("", "the number is too large"),
    ],
)
def test_other_reasons_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, listed: str, message: str
) -> None:
    monkeypatch.setenv(REACHED_VARIABLE, listed)
    assert with_cure(message, ValueError(message)) == message
