"""The bytes of each user's results are counted, and not at each question."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from deployments.retention.use import ResultsUse
from tasks.contracts import PublishedFile
from tasks.storage.retention.local import LocalRetention
from tasks.storage.retention.records import KeptResult
from tests.tasks.storage.results.attempts import claim


class Counted(LocalRetention):
    """Results that count how often they are listed."""

    times = 0

    def results(self) -> Iterator[KeptResult]:
        self.times += 1
        return super().results()


def publish(root: Path, user: str | None, size: int) -> None:
    job = uuid4()
    (root / "x" / str(job)).mkdir(parents=True)
    file = PublishedFile(path="a", bytes=size, sha256="0" * 64)
    manifest = claim(job, 1, [file]).model_copy(update={"user": user})
    (root / "x" / str(job) / "manifest.json").write_text(manifest.model_dump_json())


async def test_bytes_of_users(tmp_path: Path) -> None:
    for user, size in (("anna", 5), ("anna", 7), ("bob", 11), (None, 100)):
        publish(tmp_path, user, size)
    results = Counted(tmp_path)
    use = ResultsUse(results)
    assert [await use.of(user) for user in ("anna", "bob", "carol")] == [12, 11, 0]
    publish(tmp_path, "carol", 3)
    use.forget("anna", 7)
    assert [await use.of(user) for user in ("anna", "carol")] == [5, 0], "counted a moment ago"
    assert results.times == 1
