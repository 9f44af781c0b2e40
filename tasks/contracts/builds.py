"""The payload of an image build: a Dockerfile and its files."""

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from tasks.contracts.names import Source, stays_inside
from tasks.contracts.payloads import Payload, nothing
from tasks.contracts.schema import BLANK, blank_object, expect, matches
from tasks.contracts.variables import MOST_VARIABLES, VARIABLE, VARIABLE_EXPECTED, check_environment

_MOST_TEXT = 200_000  # characters: the server takes 512 KiB of parameters in all
_BESIDE = r"(?!\.{1,2}(/|(?![\s\S])))[^/\0]+"
_FILE = rf"^{_BESIDE}(/{_BESIDE})*(?![\s\S])"
_FILE_EXPECTED = "a relative path without .., such as run.sh"


def _check_files(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not stays_inside(name) or name.startswith("/"):
            raise ValueError(
                f"{name!r} is no name of a file beside the Dockerfile: use a relative path "
                "without '..', such as entrypoint.sh"
            )
    return value


_BLANK_FILES: dict[str, Any] = {"enum": [None, {}, {"__prefect_kind": "json"}]}
BLANK_BUILD = blank_object(
    dockerfile=BLANK, files=_BLANK_FILES, context=BLANK, args=_BLANK_FILES, target=BLANK
)
_NO_DOCKERFILE = blank_object(
    dockerfile=BLANK, files={"properties": {"Dockerfile": False}}, context=BLANK
)


class Build(Payload):
    """A Dockerfile with the files it needs."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"not": BLANK_BUILD, **_NO_DOCKERFILE},
            "then": {"required": ["dockerfile or context"]},
        }
    )

    # No defaults in the schema: the UI's form would fill them in, and submit a build by itself.
    dockerfile: Annotated[
        str,
        Field(
            default_factory=nothing,
            title="Dockerfile",
            description="Its text. Left out, the file called Dockerfile among the others is used. "
            "It builds without a network, unless Network is bridge; ADD of an address is refused.",
            min_length=1,
            max_length=_MOST_TEXT,
            json_schema_extra=expect("the text of a Dockerfile", type="string"),
            examples=[
                "FROM debian:12",
                'FROM debian:12\nCOPY run.sh /\nENTRYPOINT ["/run.sh"]',
            ],
        ),
    ]
    files: Annotated[
        dict[str, Annotated[str, Field(max_length=_MOST_TEXT)]],
        Field(
            default_factory=dict,
            title="Files",
            description="Files beside it, each by its path and its text. One that begins with #! "
            "can be executed.",
            max_length=1000,
            json_schema_extra={
                "propertyNames": matches(_FILE, _FILE_EXPECTED),
                **expect('texts by path, such as {"run.sh": "#!/bin/sh"}', type="object"),
            },
            examples=[{"run.sh": "#!/bin/sh\necho hello > /output/hello.txt\n"}],
        ),
        AfterValidator(_check_files),
    ]
    context: Annotated[
        Source,
        Field(
            default_factory=nothing,
            title="Context",
            description="More files beside it: a folder or a tarball (.tar, .tar.gz, .tgz) under "
            "the inputs root, or at an s3:// address, less what its .dockerignore names.",
            examples=["images/simulator", "images/simulator.tar.gz"],
        ),
    ]
    args: Annotated[
        dict[str, str],
        Field(
            default_factory=dict,
            title="Build arguments",
            description="Values for ARG in the Dockerfile, by name. No secrets: they stay in the "
            "image and with the job.",
            max_length=MOST_VARIABLES,
            json_schema_extra={
                "propertyNames": matches(VARIABLE, VARIABLE_EXPECTED),
                **expect('values by name, such as {"VERSION": "3"}', type="object"),
            },
            examples=[{"VERSION": "3"}],
        ),
        AfterValidator(check_environment),
    ]
    target: Annotated[
        str,
        Field(
            default_factory=nothing,
            title="Target",
            description="The stage to build, as FROM … AS names it; the last, if left out.",
            min_length=1,
            max_length=200,
            json_schema_extra=expect("the name of a stage, such as runtime", type="string"),
            examples=["runtime"],
        ),
    ]

    @classmethod
    def _is_blank(cls, name: str, value: Any) -> bool:
        return value in (None, "") or super()._is_blank(name, value)

    @model_validator(mode="after")
    def _has_a_dockerfile(self) -> "Build":
        given = self.model_fields_set
        if "dockerfile" in given and "Dockerfile" in self.files:
            raise ValueError("the Dockerfile is there twice: leave out one of dockerfile and files")
        if not {"dockerfile", "context"} & given and "Dockerfile" not in self.files:
            raise ValueError("there is no Dockerfile: give its text, or a context that holds one")
        return self
