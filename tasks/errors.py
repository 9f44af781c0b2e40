"""The tree of errors; each docstring names the cure.

PrefectureError
├── JobError              the job's own fault: final, shown to the user in one line
│   ├── InvalidPayload    a value that is not allowed
│   │   └── KeyTaken      a key that another job was submitted with
│   ├── SourceNotFound    there is no such file, or it is outside the inputs root
│   │   └── FileUnreadable one file of a source that cannot be read
│   ├── UnreadableInput   the source holds no file that the task can read
│   ├── ContainerFailed   the user's own container failed
│   ├── TopicUnavailable  a topic cannot be reached or written
│   └── ResultsUnwritable the results root cannot be written
├── StorageUnavailable    S3 does not answer, or breaks off: transient
├── EngineUnavailable     the Docker engine, or ECS, does not answer: transient
│   ├── RegistryUnavailable   an image registry does not answer, or limits its pulls
│   ├── DiskNearlyFull    the disk that a container writes to is nearly full
│   └── ContainerLost     a user's container was stopped from outside
├── DeliveryFailed        a receiver did not accept a notification: retried
│   └── DeliveryRefused   the receiver refuses it for good: final
├── ServerUnavailable     the Prefect server does not answer, or answers with an error
├── NotAdmitted           a gateway does not take the token, or the token does not allow this
├── JobNotCompleted       a job that a caller waited for has no result
│   ├── JobFailedError    the job failed
│   ├── JobCancelledError the job was cancelled
│   └── JobNotEnded       the job has not ended within the timeout
├── StageDiscarded        the attempt was declared lost, and another one replaces it
├── ResultExpired         the result was removed after its time
├── CorruptResult         a published file differs from its manifest
└── OperatorError         the operator of Prefecture must change something
"""

from pydantic import ValidationError


class PrefectureError(Exception):
    """Base of every error of Prefecture. Its message is one line that says what to change."""


class JobError(PrefectureError):
    """The job cannot succeed as submitted. Change what the message names and submit again."""


class InvalidPayload(JobError):
    """A parameter is out of range or not allowed. Submit again as the message says."""

    @classmethod
    def of(cls, parameter: str, error: ValidationError) -> "InvalidPayload":
        """Make an error of the first one that pydantic found: one line that names the field."""
        first = error.errors(include_url=False)[0]
        path = ".".join([parameter, *map(str, first["loc"])])
        return cls(f"{path}: {first['msg'].removeprefix('Value error, ')}")


class KeyTaken(InvalidPayload):
    """The key names another job. Choose another key, or submit the same parameters as that job."""


class SourceNotFound(JobError):
    """The source names nothing under the inputs root. Put files there, or correct the source."""


class FileUnreadable(SourceNotFound):
    """One file of a source cannot be read. A task that works file by file lists it and goes on.

    `reason`: the message without the name of the source.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnreadableInput(JobError):
    """The source holds no file that this task can read. Check the files that the message names."""


class ContainerFailed(JobError):
    """The user's container failed, or was stopped. The message ends with its last log lines."""


class ResultsUnwritable(JobError):
    """The results root cannot be written. Free space, or give the worker's user write access."""


class StorageUnavailable(PrefectureError):
    """S3 cannot be reached, and a minute of retries within the run did not help.

    Not the job's fault, but the job fails: submit it again once S3 answers.
    """


class EngineUnavailable(PrefectureError):
    """The Docker engine, or ECS, does not answer. Start the engine; jobs wait until it answers."""


class RegistryUnavailable(EngineUnavailable):
    """A registry did not answer, or asked to wait, for a minute of retries. The job is retried.
    Check that the registry runs, and that its limit on pulls is not reached."""


class DiskNearlyFull(EngineUnavailable):
    """The disk that a container writes to has less free than PREFECTURE_MIN_FREE_DISK. Free some
    space; the job is retried."""


class ContainerLost(EngineUnavailable):
    """A user's container was stopped by another client of the engine. The job is retried."""


class TopicUnavailable(JobError):
    """A topic cannot be reached or written. Correct what the message names, and submit again."""


class DeliveryFailed(PrefectureError):
    """A receiver did not accept a notification. It is retried; correct what the message names.

    `retry_after`: seconds that the receiver asks to wait before the next try, where it says so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeliveryRefused(DeliveryFailed):
    """The receiver refuses a notification for good. It is not retried; correct the subscriber."""


class ServerUnavailable(PrefectureError):
    """The Prefect server does not answer, or failed. Start it, or read its log."""


class NotAdmitted(PrefectureError):
    """The token is wrong, revoked or expired, or does not allow this. Ask the operator for one."""


class JobNotCompleted(PrefectureError):
    """A job that a caller waited for has no result. The subclass says why."""


class JobFailedError(JobNotCompleted):
    """The job failed. Change what the message names, and submit it again."""


class JobCancelledError(JobNotCompleted):
    """The job was cancelled. Submit it again if it is still needed."""


class JobNotEnded(JobNotCompleted, TimeoutError):
    """The job has not ended within the timeout. It goes on: wait once more."""


class StageDiscarded(PrefectureError):
    """This attempt was declared lost and its stage removed. Another attempt does the job."""


class ResultExpired(PrefectureError):
    """The result was removed after its time, or for want of space. Run the job again."""


class CorruptResult(PrefectureError):
    """The files of a result differ from its manifest. Do not use it; submit the job again."""


class OperatorError(PrefectureError):
    """The set-up is wrong or incomplete. Do what the message says, then run the command again."""


def in_short(error: BaseException) -> str:
    """Describe an error in one line: its type, and at most 200 characters of its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
