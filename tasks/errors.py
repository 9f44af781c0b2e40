"""One small tree of errors; each docstring names the cure.

PrefectureError
├── JobError              the job's own fault: final, told to the user in one line
│   ├── InvalidPayload    a value that the schema could not refuse
│   │   └── KeyTaken      a key that another job was submitted with
│   ├── SourceNotFound    nothing there, or outside the inputs root
│   │   └── FileUnreadable one file of a source that cannot be read
│   ├── UnreadableInput   something is there, and it is not what the task works on
│   ├── ContainerFailed   the user's own container did not do its work
│   ├── TopicUnavailable  a topic does not take what is generated
│   └── ResultsUnwritable the results root refuses to be written
├── StorageUnavailable    S3 does not answer, or breaks off: passes, no one's fault
├── EngineUnavailable     the Docker engine does not answer: passes, no one's fault
│   ├── RegistryUnavailable   a registry of images does not answer, or asks to wait
│   ├── DiskNearlyFull    the disk that a container writes to has less free than it must
│   └── ContainerLost     a user's container was ended from outside
├── DeliveryFailed        a notification was not taken: passes, or the receiver must change
│   └── DeliveryRefused   the receiver will never take it: final
├── ServerUnavailable     the Prefect server does not answer, or not as it should
├── JobNotCompleted       a job that was waited for
│   ├── JobFailedError    has failed
│   ├── JobCancelledError was cancelled
│   └── JobNotEnded       has not ended in the time given
├── StageDiscarded        the attempt was given up, and another has taken its place
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


class KeyTaken(InvalidPayload):
    """The key names another job. Choose another one, or submit just what that job was."""


class SourceNotFound(JobError):
    """The source names nothing under the inputs root. Put files there, or correct the source."""


class FileUnreadable(SourceNotFound):
    """One file of a source cannot be read; a task that works on each alone reports it.

    `reason` is the message without the name of the source.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnreadableInput(JobError):
    """The source holds nothing this task can read. Check the files that the message names."""


class ContainerFailed(JobError):
    """The user's container ended badly, or was ended. Its logs say more: the message has them."""


class ResultsUnwritable(JobError):
    """The results root cannot be written. Free space, or give the worker's user write access."""


class StorageUnavailable(PrefectureError):
    """S3 cannot be reached for now, and a minute of retries within the run has not helped.

    Not the job's fault, but the job fails: submit it again once S3 answers.
    """


class EngineUnavailable(PrefectureError):
    """The Docker engine does not answer for now. Start it; jobs wait until it does."""


class RegistryUnavailable(EngineUnavailable):
    """A registry does not answer, or asks to wait, after a minute of retries. The job waits, and is
    tried again: look whether the registry runs, and whether its limit on pulls is met."""


class DiskNearlyFull(EngineUnavailable):
    """The disk that a container writes to has less free than PREFECTURE_MIN_FREE_DISK. Free some;
    the job is tried again."""


class ContainerLost(EngineUnavailable):
    """A user's container was ended by someone else's call to the engine. It is tried again."""


class TopicUnavailable(JobError):
    """A topic cannot be reached or written. See to what the message names, and submit again."""


class DeliveryFailed(PrefectureError):
    """A receiver has not taken a notification. It is tried again; see to what the message names.

    `retry_after` is how many seconds the receiver asks to be left alone, where it says so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeliveryRefused(DeliveryFailed):
    """The receiver refuses a notification for good. It is not retried; correct the subscriber."""


class ServerUnavailable(PrefectureError):
    """The Prefect server cannot do what was asked. Start it, or look into its log."""


class JobNotCompleted(PrefectureError):
    """A job that was waited for has no result. See which of these it is."""


class JobFailedError(JobNotCompleted):
    """The job has failed. Change what the message names, and submit it again."""


class JobCancelledError(JobNotCompleted):
    """The job was cancelled. Submit it again, should it be wanted after all."""


class JobNotEnded(JobNotCompleted, TimeoutError):
    """The job has not ended within the time that was given. It goes on: wait once more."""


class StageDiscarded(PrefectureError):
    """This attempt was taken for dead and what it had staged is gone. Another does the job."""


class CorruptResult(PrefectureError):
    """A result's bytes differ from its manifest. Do not use it; run the job again."""


class OperatorError(PrefectureError):
    """Set-up is wrong or incomplete. Do what the message says, then run the command again."""


def in_short(error: BaseException) -> str:
    """An error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
