"""Topics that are folders: every line once, in order, in segments that roll."""

from pathlib import Path

import pytest

from tasks.errors import TopicUnavailable
from tasks.generation.topics import folder
from tasks.generation.topics.folder import FolderTopic
from tasks.generation.topics.topic import open_topic


def test_lines_stand_in_segments_that_roll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_SEGMENT_BYTES", 1000)
    topic = open_topic("clicks", tmp_path, "job-1")
    lines = [f'{{"n": {n}}}'.encode() for n in range(500)]
    for line in lines:
        topic.deliver(1, line)
    assert topic.delivered + topic.pending == 500
    topic.close()
    assert (topic.delivered, topic.pending) == (500, 0)
    segments = sorted((tmp_path / "clicks").iterdir())
    assert len(segments) > 3
    assert [s.name for s in segments][:2] == ["job-1-000001.ndjson", "job-1-000002.ndjson"]
    assert b"".join(s.read_bytes() for s in segments).splitlines() == lines
    assert topic.environment == {"TOPIC": "clicks"}


def test_no_two_writers_share_a_file(tmp_path: Path) -> None:
    topics = [FolderTopic(tmp_path / "clicks", f"writer-{n}") for n in range(2)]
    for number, topic in enumerate(topics):
        topic.deliver(0, str(number).encode())
        topic.close()
    found = {path.name: path.read_text() for path in (tmp_path / "clicks").iterdir()}
    assert found == {"writer-0-000001.ndjson": "0\n", "writer-1-000001.ndjson": "1\n"}


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "clicks").write_text("a file")
    with pytest.raises(TopicUnavailable, match=r"cannot be written: .*choose another topic"):
        open_topic("clicks", tmp_path, "writer")
