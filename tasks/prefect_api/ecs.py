"""A cluster of Amazon ECS, reached with the credentials of a Prefect block."""

import asyncio
import json
from threading import Lock
from typing import Any, cast
from urllib.parse import unquote

from tasks.contracts import ECS_FAMILY
from tasks.errors import EngineUnavailable, OperatorError
from tasks.settings import Settings

_REFUSALS = (
    *("AccessDenied", "UnrecognizedClient", "InvalidClientTokenId", "InvalidSignature"),
    *("SignatureDoesNotMatch", "ExpiredToken"),
)
# Who asks repeats the question anyway; the client's own tries would take minutes.
_CLIENT_CONFIG: dict[str, Any] = {
    "retries": {"total_max_attempts": 2},
    "connect_timeout": 5,  # seconds
    "read_timeout": 15,
}
_TASKS = "ecs-tasks.amazonaws.com"
ECS_PAGE = 100
"""Tasks in one answer of ECS, at most."""


class EcsCluster:
    """One cluster. The methods block, and are thread-safe."""

    def __init__(self, name: str, block: str) -> None:
        """`name`: or the ARN. `block`: that of the credentials, which is loaded at first use."""
        self.name = name
        self._block = block
        self._lock = Lock()
        self._clients: dict[str, Any] = {}

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Call an operation of ECS on this cluster, such as `describe_tasks`.

        Raises EngineUnavailable where ECS does not answer, or refuses, with the cure in one line.
        """
        return self._call(operation, cluster=self.name, **fields)

    def check(self) -> None:
        """Raise EngineUnavailable where there is no such cluster, with the cure in one line."""
        found = self._call("describe_clusters", clusters=[self.name])["clusters"]
        if not found or found[0].get("status") != "ACTIVE":
            raise EngineUnavailable(self._missing())

    def check_role(self, setting: str, role: str) -> None:
        """Raise OperatorError where tasks cannot have a role, which `setting` names by its ARN.

        Where the credentials may not read roles, nothing is known, and that is no error.
        """
        from botocore.exceptions import ClientError

        try:
            found = self._client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]
        except ClientError as error:
            if _code(error) == "NoSuchEntity":
                raise OperatorError(
                    f"there is no role {role}: create it, or correct {setting}"
                ) from error
            return
        # An object, as the client reads it; or text with escapes, as AWS sends it.
        trusted = found["AssumeRolePolicyDocument"]
        text = unquote(trusted) if isinstance(trusted, str) else json.dumps(trusted)
        if _TASKS not in text:
            raise OperatorError(
                f"tasks in ECS cannot have the role {role}: let it trust {_TASKS}, or correct "
                f"{setting}"
            )

    def _call(self, operation: str, **fields: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return cast("dict[str, Any]", getattr(self._client("ecs"), operation)(**fields))
        except ClientError as error:
            if _code(error).startswith("ClusterNotFound"):
                raise EngineUnavailable(self._missing()) from error
            if _code(error).startswith(_REFUSALS):
                self._clients.clear()  # loaded anew: the block may be corrected
                raise EngineUnavailable(
                    f"ECS refuses {self._block}: {_text(error)}: correct the block, or the rights "
                    "that it gives"
                ) from error
            raise EngineUnavailable(f"ECS cannot do {operation}: {_text(error)}") from error
        except BotoCoreError as error:
            self._clients.clear()
            raise EngineUnavailable(
                f"ECS cannot be reached with {self._block}: {_text(error)}"
            ) from error

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                # Threads have no event loop.
                self._clients[service] = asyncio.run(_client(service, self._block))
            return self._clients[service]

    def _missing(self) -> str:
        return (
            f"ECS has no active cluster {self.name}: create it, or correct PREFECTURE_ECS_CLUSTER "
            f"or the region in {self._block}"
        )


def has_ended(task: dict[str, Any]) -> bool:
    """Whether a task, as ECS describes it, runs no more."""
    return task["lastStatus"] in ("STOPPED", "DELETED")


def container_of(task: dict[str, Any]) -> dict[str, Any]:
    """The container of a job's task, as ECS describes it; empty where it has none yet."""
    containers: list[dict[str, Any]] = task.get("containers", [])
    nothing = dict[str, Any]()
    return next((each for each in containers if each.get("name") == ECS_FAMILY), nothing)


def ecs_cluster(settings: Settings) -> EcsCluster:
    """The cluster that the settings name. Raises OperatorError where they name none."""
    if settings.ecs_cluster is None or settings.ecs_credentials is None:
        raise OperatorError(
            "the pool ecs needs PREFECTURE_ECS_CLUSTER, the name of a cluster, and "
            "PREFECTURE_ECS_CREDENTIALS, that of a block, such as aws-credentials/ecs"
        )
    return EcsCluster(settings.ecs_cluster, settings.ecs_credentials)


async def _client(service: str, name: str) -> Any:
    # Imported here alone: this takes seconds.
    from prefect_aws.credentials import AwsCredentials

    try:
        block = await AwsCredentials.aload(name.partition("/")[2])
    except ValueError as error:
        raise EngineUnavailable(
            f"there is no block {name} on the Prefect server: save it, or correct "
            "PREFECTURE_ECS_CREDENTIALS"
        ) from error
    assert isinstance(block, AwsCredentials)
    parameters = block.aws_client_parameters
    parameters.config = _CLIENT_CONFIG | (parameters.config or {})  # the block's values win
    return block.get_client(service)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _text(error: Exception) -> str:
    return " ".join(str(error).split())
