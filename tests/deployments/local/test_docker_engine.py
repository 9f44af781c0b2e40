"""A busy Docker engine that refuses a removal: retried, and at last an error of one line."""

from typing import Any

import pytest
import requests
from docker.errors import APIError, NotFound

from deployments.local import docker_engine
from deployments.local.docker_engine import remove_containers
from tasks.errors import OperatorError


def answer(status: int) -> APIError:
    """What the client raises for an answer of the engine."""
    response = requests.Response()
    response.status_code = status
    return APIError("refused", response, "driver failed to remove root filesystem: device busy")


class Engine:
    """One container, whose removal meets these errors, one after the other."""

    def __init__(self, *errors: Exception) -> None:
        self.name = "a-job"
        self.containers = self
        self._errors = [*errors]

    def list(self, **_: Any) -> list[Any]:
        return [self]

    def remove(self, **_: Any) -> None:
        if self._errors:
            raise self._errors.pop(0)

    @property
    def left(self) -> int:
        return len(self._errors)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "_RETRY_DELAY", 0.0)


@pytest.mark.parametrize(
    "errors",
    [
        [],
        [answer(500), answer(500)],
        [requests.ReadTimeout("no answer"), answer(500), answer(409)],
        [answer(500), NotFound("gone")],
    ],
    ids=["at once", "500", "late", "gone"],
)
def test_removed_in_the_end(errors: list[Exception]) -> None:
    engine: Any = Engine(*errors)
    assert remove_containers(engine, "worker") == 1
    assert engine.left == 0


def test_an_engine_that_never_removes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "_REMOVAL", -1.0)
    engine: Any = Engine(answer(500))
    with pytest.raises(OperatorError) as said:
        remove_containers(engine, "worker")
    assert "does not remove the container a-job: " in str(said.value)
    assert "device busy" in str(said.value)
    assert str(said.value).endswith("try `docker rm --force a-job`")
    assert "\n" not in str(said.value)
