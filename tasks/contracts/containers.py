"""Payloads and names of the compute tasks that run the users' own images."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from tasks.contracts.builds import BLANK_BUILD, Build
from tasks.contracts.names import Source, must_match
from tasks.contracts.payloads import Payload, nothing
from tasks.contracts.schema import expect, matches, one_of_two
from tasks.contracts.variables import MOST_VARIABLES, by_name, check_environment, list_or_object

ENGINE_TASKS = frozenset({"run-container", "generate-data"})
"""Compute tasks whose flow starts containers and needs the Docker engine."""
SIBLING_LABEL = "sibling"
"""The label `prefecture` of a user's container has this value; that of a job container, `job`."""
BUILT_REPOSITORY = "prefecture-build"
"""The repository of images that are built for a job; the tag is the job's id."""
UNTIL_LABEL = "prefecture.until"
"""Label of a flow run: the time at which a job of generate-data ends, for all its attempts."""
IMAGE_LABEL = "prefecture.image"
"""Label of a flow run: the image, by digest, of this attempt and all later ones."""
SECRETS_VOLUME = "prefecture-secrets-"
"""Begins the name of a volume with secrets; the id of the flow run follows."""
SECRETS_FOLDER = "/run/secrets"
"""The folder of the secrets in a container of a user."""
MOST_SECRETS = 20
"""Secrets of one job."""
ENGINE_FOLDER = "/run/prefecture"
"""The folder of ENGINE_SOCKET, at which the broker's folder is mounted."""
ENGINE_SOCKET = f"{ENGINE_FOLDER}/docker.sock"
"""Path of the broker's socket in the containers of ENGINE_TASKS, and of no other tasks. It is the
engine's own socket where PREFECTURE_BROKER is false, and with Prefect's own workers."""
RUN_HEADER = "Prefecture-Run"
"""Header of each request to the broker: the id of the flow run that asks, beside its token."""
PULL_STEPS = [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}]
"""Those of prefect.yaml: the job starts in the folder that holds the image's code."""

NO_ENGINE = (
    "this task needs a Docker engine: start Prefecture with one (`prefecture up --pool docker`), "
    "and submit the job again"
)


def engine_task(entrypoint: str | None, pull_steps: list[dict[str, Any]] | None) -> str | None:
    """The task of a deployment, if it is one of ENGINE_TASKS with the code of the image; or None.

    Pull steps of somebody's own could run a program, or change to a folder with other code.
    """
    if pull_steps != PULL_STEPS:
        return None
    for task in ENGINE_TASKS:
        name = task.replace("-", "_")
        if entrypoint == f"flows/{name}.py:{name}":
            return task
    return None


_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}
_LEAST_MEMORY = 6 * 2**20  # bytes; the engine refuses less
_SIZE = r"^[1-9][0-9]{0,11}[kmg](?![\s\S])"
_SIZE_EXPECTED = "a number and k, m or g, such as 512m"
# At least 6m, as _LEAST_MEMORY.
_MEMORY = (
    r"^((614[4-9]|61[5-9][0-9]|6[2-9][0-9]{2}|[7-9][0-9]{3}|[1-9][0-9]{4,11})k"
    r"|([6-9]|[1-9][0-9]{1,11})m|[1-9][0-9]{0,11}g)(?![\s\S])"
)
_MEMORY_EXPECTED = "a number and k, m or g, such as 512m, and 6m at least"
_BLOCK = r"^docker-registry-credentials/[a-z0-9-]+(?![\s\S])"
_SECRET = r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?(?![\s\S])"
_SECRET_EXPECTED = "the name of a Secret block, such as api-key, of small letters, digits and -"
_BLOCK_EXPECTED = "the name of a block, such as docker-registry-credentials/team"


def size_in_bytes(size: str) -> int:
    """Convert a size such as 512m to bytes."""
    return int(size[:-1]) * _UNITS[size[-1]]


def _check_memory(value: str) -> str:
    if size_in_bytes(value) < _LEAST_MEMORY:
        raise ValueError(f"{value} is less than the 6m that the Docker engine needs: ask for more")
    return value


def _check_words(value: list[str]) -> list[str]:
    if any("\0" in word for word in value):
        raise ValueError("a command cannot hold a NUL character: leave it out")
    return value


def _check_once(value: list[str]) -> list[str]:
    if len({*value}) < len(value):
        raise ValueError("a secret is named twice: leave one out")
    return value


Size = Annotated[str, must_match(_SIZE, f"is not {_SIZE_EXPECTED}")]


class Container(Payload):
    """A user's image, and the resources of its container."""

    model_config = ConfigDict(json_schema_extra=one_of_two("image", "build", BLANK_BUILD))

    image: Annotated[
        str,
        Field(
            default_factory=nothing,
            title="Image",
            description="The image to run, by name or digest. It is pulled where the host has "
            "none of that name.",
            min_length=1,
            max_length=400,
            json_schema_extra=expect("the name of an image, such as debian:12", type="string"),
            examples=["debian:12", "registry.example.org/team/simulator:3"],
        ),
    ]
    registry_credentials: Annotated[
        str,
        Field(
            default_factory=nothing,
            title="Registry credentials",
            description="The Prefect block to pull the image with, or the base images of a build.",
            json_schema_extra=matches(_BLOCK, _BLOCK_EXPECTED),
            examples=["docker-registry-credentials/team"],
        ),
    ]
    build: Annotated[
        Build,
        Field(
            default_factory=nothing,
            title="Build",
            description="Instead of an image: a Dockerfile, from which one is built for this job.",
            examples=[{"dockerfile": "FROM debian:12\nCMD echo hello"}],
        ),
    ]
    entrypoint: Annotated[
        list[str],
        Field(
            default_factory=list,
            title="Entry point",
            description="What to run, word by word, in place of the image's own entry point. The "
            "image's command is then left out, as with docker run.",
            max_length=100,
            json_schema_extra=expect('a list of words, such as ["python3", "-m"]', type="array"),
            examples=[["python3", "-m", "simulator"]],
        ),
        AfterValidator(_check_words),
    ]
    command: Annotated[
        list[str],
        Field(
            default_factory=list,
            title="Command",
            description="What to run, word by word, in place of the image's own command.",
            max_length=1000,
            json_schema_extra=expect('a list of words, such as ["ls", "-l"]', type="array"),
            examples=[["python3", "simulate.py", "--steps", "100"]],
        ),
        AfterValidator(_check_words),
    ]
    environment: Annotated[
        dict[str, str],
        Field(
            default_factory=dict,
            title="Environment",
            description="Variables, each as NAME=value such as COLOR=red, or all of them as JSON "
            'such as {"COLOR": "red"}. No secrets: everyone who sees the job sees them. They go to '
            "`secrets`.",
            max_length=MOST_VARIABLES,
            json_schema_extra=list_or_object,
            examples=[["COLOR=red"], {"COLOR": "red"}],
        ),
        BeforeValidator(by_name),
        AfterValidator(check_environment),
    ]
    secrets: Annotated[
        list[Annotated[str, must_match(_SECRET, f"is not {_SECRET_EXPECTED}")]],
        Field(
            default_factory=list,
            title="Secrets",
            description="Names of Secret blocks of the Prefect server: the value of each is in the "
            "file /run/secrets/NAME, which is in memory, and nowhere else.",
            max_length=MOST_SECRETS,
            json_schema_extra={
                "items": {"type": "string", **matches(_SECRET, _SECRET_EXPECTED)},
                **expect('a list of names, such as ["api-key"]', type="array"),
            },
            examples=[["api-key"]],
        ),
        AfterValidator(_check_once),
    ]
    cpus: Annotated[
        float,
        Field(title="CPUs", description="CPUs it may use.", ge=0.01, le=1024, examples=[0.5]),
    ] = 1.0
    memory: Annotated[
        Size,
        Field(
            title="Memory",
            description="Memory it may use, swap and /tmp included: a number and k, m or g, 6m at "
            "least.",
            json_schema_extra=matches(_MEMORY, _MEMORY_EXPECTED),
            examples=["512m"],
        ),
        AfterValidator(_check_memory),
    ] = "512m"
    gpus: Annotated[
        int,
        Field(
            title="GPUs",
            description="GPUs that the job has for itself. It goes to a host that offers as many.",
            ge=0,
            le=64,
            examples=[1],
        ),
    ] = 0
    shm: Annotated[
        Size,
        Field(
            default_factory=nothing,
            title="Shared memory",
            description="How large /dev/shm may become, as part of the memory: a number and k, m "
            "or g. As large as the memory, if left out.",
            json_schema_extra=matches(_SIZE, _SIZE_EXPECTED),
            examples=["256m"],
        ),
    ]
    network: Annotated[
        Literal["none", "bridge"],
        Field(
            title="Network",
            description="none, or a bridge with access to the internet.",
            examples=["none"],
        ),
    ] = "none"

    @classmethod
    def _is_blank(cls, name: str, value: Any) -> bool:
        return (name == "shm" and value == "") or super()._is_blank(name, value)

    @model_validator(mode="after")
    def _has_one_image(self) -> "Container":
        given = self.model_fields_set
        if ("image" in given) == ("build" in given):
            raise ValueError("name either an image, or a build")
        if "registry_credentials" in given and not re.match(_BLOCK, self.registry_credentials):
            raise ValueError(
                f"{self.registry_credentials!r} is no block: name one such as "
                "docker-registry-credentials/team"
            )
        return self

    def shared_memory(self) -> int:
        """Return the requested bytes of /dev/shm; 0 for as many as the memory has."""
        return size_in_bytes(self.shm) if "shm" in self.model_fields_set else 0


class RunContainer(Container):
    """The payload of run-container: an image to run once, with its inputs and limits."""

    form_order: ClassVar = (
        *("image", "build", "command", "inputs", "environment", "secrets", "network"),
        *("cpus", "memory", "output", "max_duration"),
    )

    inputs: Annotated[
        Source,
        Field(
            default_factory=nothing,
            title="Inputs",
            description="Files to read at /input: a file, folder or glob under the inputs root, "
            "an s3:// address, or job://<job id>/<path>: a result of another job.",
            examples=["measurements/2026"],
        ),
    ]
    output: Annotated[
        Size,
        Field(
            title="Output",
            description="How large /output may become: a number and k, m or g.",
            json_schema_extra=matches(_SIZE, _SIZE_EXPECTED),
            examples=["1g"],
        ),
    ] = "1g"
    max_duration: Annotated[
        int,
        Field(
            title="Max duration",
            description="Seconds it may run. It gets SIGTERM then, and SIGKILL 10 s later.",
            ge=1,
            le=31_536_000,
            examples=[600],
        ),
    ] = 3600
