"""The contents of a result: its files, its manifest, its receipt."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.contracts.names import stays_inside

RESULT_BLOCK = "prefecture-results"
"""Name of the storage block in which Prefect keeps the return values of flows."""


def _check_published(path: str) -> str:
    if not stays_inside(path):
        raise ValueError(f"{path!r} leaves the result: run the job again")
    return path


def _check_folder(path: str) -> str:
    return path and _check_published(path)


class PublishedFile(BaseModel):
    """One file of a result."""

    model_config = ConfigDict(frozen=True)

    path: Annotated[str, AfterValidator(_check_published)] = Field(
        description="relative to the manifest, or to its `folder` there, with '/'"
    )
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The last file written of a result. A result exists when its manifest does."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    job: UUID
    task: str
    attempt: int = Field(ge=1)
    flow_run: UUID = Field(description="the attempt that published")
    parameters: dict[str, Any]
    submitted: datetime
    started: datetime
    published: datetime
    user: str | None = Field(
        default=None, description="the user of the gateway whose job it was; null: nobody's"
    )
    expires: datetime | None = Field(
        default=None, description="when it may be removed, where its job said so"
    )
    summary: dict[str, Any] = Field(description="the task's own numbers on its work")
    files: list[PublishedFile]
    folder: Annotated[str, AfterValidator(_check_folder)] = Field(
        default="", description="where the files are, relative to the manifest; empty: beside it"
    )

    @property
    def bytes(self) -> int:
        """Size of all files in bytes, without the manifest itself."""
        return sum(file.bytes for file in self.files)


class Receipt(BaseModel):
    """The return value of a compute task: where its result is. Prefect keeps it as JSON."""

    model_config = ConfigDict(frozen=True)

    job: UUID
    location: str
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
