"""What jobs find of the settings, as variables of their environment."""

from tasks.settings.model import Settings


def job_environment(settings: Settings) -> dict[str, str]:
    """The environment variables of a job of either pool: all settings that a job reads."""
    credentials, runtime = settings.s3_credentials, settings.runtime
    scratch = None if settings.written == settings.results else settings.scratch
    return {
        "PREFECTURE_INPUTS_ROOT": str(settings.inputs),
        "PREFECTURE_RESULTS_ROOT": str(settings.results),
        "PREFECTURE_CPUS": str(settings.cpus),
        "PREFECTURE_SUM_MEMORY": str(int(settings.sum_memory)),
        "PREFECTURE_COPY_AFTER": str(settings.copy_after),
        "PREFECTURE_COPY_FACTOR": str(settings.copy_factor),
        "PREFECTURE_COPY_MOST": str(settings.copy_most),
        "PREFECTURE_COPY_SECONDS": str(settings.copy_seconds),
        "PREFECTURE_CONTAINER_OUTPUT": str(int(settings.container_output)),
        "PREFECTURE_MIN_FREE_DISK": str(int(settings.min_free_disk)),
        "VIPS_CONCURRENCY": str(settings.cpus),  # libvips would take every CPU of the host
        # A job survives about two minutes without its server: 2 + 4 + … + 64 s. Then it ends;
        # the next attempt finds the result, if it was published by then.
        "PREFECT_CLIENT_MAX_RETRIES": "6",
        **({} if settings.confine else {"PREFECTURE_CONFINE": "false"}),
        **({"PREFECTURE_RUNTIME": runtime} if runtime else {}),
        **({"PREFECTURE_S3_CREDENTIALS": credentials} if credentials else {}),
        **({"PREFECTURE_SCRATCH": str(scratch)} if scratch else {}),
    }
