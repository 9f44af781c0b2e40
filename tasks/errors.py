"""One small tree of errors; each docstring names the cure.

PrefectureError
├── JobError              the job's own fault: final, told to the user in one line
│   ├── InvalidPayload    a value that the schema could not refuse
│   ├── SourceNotFound    nothing there, or outside the inputs root
│   ├── UnreadableInput   something is there, and it is not what the task works on
│   └── ResultsUnwritable the results root refuses to be written
├── StorageUnavailable    S3 does not answer, or breaks off: passes, no one's fault
├── CorruptResult         a published file is not what its manifest says
└── OperatorError         the person who runs Prefecture must change something
"""

from pydantic import ValidationError


class PrefectureError(Exception):
    """Base of every error of ours: its message is one line that says what to change."""


class JobError(PrefectureError):
    """The job cannot succeed as submitted. Change what the message names and submit again."""


class InvalidPayload(JobError):
    """A parameter is out of range or not allowed. Submit again as the message says."""

    @classmethod
    def of(cls, parameter: str, error: ValidationError) -> "InvalidPayload":
        """What pydantic found wrong first with a parameter, in one line that names the field."""
        first = error.errors(include_url=False)[0]
        path = ".".join([parameter, *map(str, first["loc"])])
        return cls(f"{path}: {first['msg'].removeprefix('Value error, ')}")


class SourceNotFound(JobError):
    """The source names nothing under the inputs root. Put files there, or correct the source."""


class UnreadableInput(JobError):
    """The source holds nothing this task can read. Check the files that the message names."""


class ResultsUnwritable(JobError):
    """The results root cannot be written. Free space, or give the worker's user write access."""


class StorageUnavailable(PrefectureError):
    """S3 cannot be reached for now: not the job's fault. Let the job run again, later."""


class CorruptResult(PrefectureError):
    """A result's bytes differ from its manifest. Do not use it; run the job again."""


class OperatorError(PrefectureError):
    """Set-up is wrong or incomplete. Do what the message says, then run the command again."""
