"""One attempt at a job, for the tests of results; importable by the processes that they start."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from tasks.contracts import Manifest, PublishedFile
from tasks.storage.results import local_files

CONTENT = {"a.bin": b"a" * 5000, "deep/er/é.bin": b"b" * 70_000, "empty": b""}
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def fill(folder: Path, content: dict[str, bytes] = CONTENT) -> None:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def claim(job: UUID, attempt: int, files: list[PublishedFile], run: UUID | None = None) -> Manifest:
    """The manifest that an attempt would publish."""
    return Manifest(
        job=job,
        task="test",
        attempt=attempt,
        flow_run=run or uuid4(),
        parameters={},
        **dict.fromkeys(("submitted", "started", "published"), MOMENT),
        summary={},
        files=files,
    )


def publish(
    root: Path,
    directory: str,
    job: UUID,
    attempt: int = 1,
    content: dict[str, bytes] = CONTENT,
) -> Manifest:
    """What a flow does with its results: stage, work, take stock, publish."""
    run = uuid4()
    with local_files.open_stage(root, directory, job, run) as stage:
        fill(stage.files, content)
        manifest = claim(job, attempt, local_files.inventory(stage.files), run)
        return local_files.publish(stage, manifest)


def left_in_staging(root: Path) -> list[Path]:
    return sorted((root / local_files.STAGING).rglob("*"))
