"""Pydantic types shared by all: names, payloads, the manifest. Imports nothing else of ours.

The types are the submit form in the UI and the error message of the API: every bound that a
schema can say is said here, so that a bad value is refused with a 409 before anything runs.
"""

from tasks.contracts.jobs import (
    AGENT_VARIABLES,
    ATTEMPT_LABEL,
    JOB_ID_LABEL,
    PLATFORM_POOL,
    REQUEUE_OF_LABEL,
    REQUEUED_AS_LABEL,
    AgentReport,
    Pool,
    Queue,
    attempt_number,
    job_id,
    requeue_key,
)
from tasks.contracts.names import (
    DIRECTORY_PATTERN,
    MAX_NAME_BYTES,
    S3_SCHEME,
    ResultsDirectory,
    S3Address,
    Source,
    stays_inside,
)
from tasks.contracts.payloads import (
    AverageFiles,
    CompressImages,
    ConvertImages,
    FindPrimes,
    GenerateNumbers,
    ImageFormat,
    NumbersFormat,
    Payload,
    SumFiles,
)
from tasks.contracts.published import RESULT_BLOCK, Manifest, PublishedFile, Receipt

__all__ = [
    "AGENT_VARIABLES",
    "ATTEMPT_LABEL",
    "DIRECTORY_PATTERN",
    "JOB_ID_LABEL",
    "MAX_NAME_BYTES",
    "PLATFORM_POOL",
    "REQUEUED_AS_LABEL",
    "REQUEUE_OF_LABEL",
    "RESULT_BLOCK",
    "S3_SCHEME",
    "AgentReport",
    "AverageFiles",
    "CompressImages",
    "ConvertImages",
    "FindPrimes",
    "GenerateNumbers",
    "ImageFormat",
    "Manifest",
    "NumbersFormat",
    "Payload",
    "Pool",
    "PublishedFile",
    "Queue",
    "Receipt",
    "ResultsDirectory",
    "S3Address",
    "Source",
    "SumFiles",
    "attempt_number",
    "job_id",
    "requeue_key",
    "stays_inside",
]
