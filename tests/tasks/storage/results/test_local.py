"""Results on a disk: staged, published by one rename, read back and checked."""

import logging
import shutil
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.errors import (
    CorruptResult,
    InvalidPayload,
    JobError,
    PrefectureError,
    ResultsUnwritable,
)
from tasks.storage.results import local_files
from tests.tasks.storage.results.attempts import CONTENT, fill, left_in_staging, publish


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    root.mkdir()
    return root


@pytest.fixture
def job() -> UUID:
    return uuid4()


@pytest.fixture
def result(root: Path, job: UUID) -> Path:
    """A published result."""
    publish(root, "holiday", job)
    return root / "holiday" / str(job)


def test_published_result_holds_its_files_and_a_manifest(root: Path, job: UUID) -> None:
    manifest = publish(root, "trips/2026", job)
    folder = root / "trips" / "2026" / str(job)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        *CONTENT,
        "manifest.json",
    }
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert local_files.read_manifest(folder) == manifest
    assert [(file.path, file.bytes) for file in manifest.files] == [
        (name, len(CONTENT[name])) for name in sorted(CONTENT)
    ]
    local_files.verify(folder, manifest)
    assert left_in_staging(root) == []


def test_published_result_is_read_only_and_can_be_deleted(root: Path, result: Path) -> None:
    modes = {path: path.stat().st_mode for path in [result, *result.rglob("*")]}
    assert len(modes) > len(CONTENT)
    for path, mode in modes.items():
        assert not mode & (0o022 if path.is_dir() else 0o222), path
    shutil.rmtree(result)
    assert publish(root, "holiday", UUID(result.name)).files


def test_result_without_files_is_a_result(root: Path, job: UUID) -> None:
    assert publish(root, "none", job, content={}).files == []
    assert local_files.find(root, job) == root / "none" / str(job)


def test_two_jobs_share_a_directory(root: Path) -> None:
    one, two = uuid4(), uuid4()
    publish(root, "holiday", one, content={"a": b"1"})
    publish(root, "holiday", two, content={"a": b"2"})
    assert (root / "holiday" / str(one) / "a").read_bytes() == b"1"
    assert (root / "holiday" / str(two) / "a").read_bytes() == b"2"


def test_second_attempt_returns_the_first_ones_manifest(root: Path, job: UUID) -> None:
    first = publish(root, "holiday", job, attempt=1, content={"a": b"first"})
    second = publish(root, "holiday", job, attempt=2, content={"a": b"second"})
    assert second == first
    assert (root / "holiday" / str(job) / "a").read_bytes() == b"first"
    assert left_in_staging(root) == []


@pytest.mark.parametrize("name", ["日本.jpg", "new\nline", " ", "a'\"`|.x", "e\u0301", "x" * 255])
def test_odd_names_survive(root: Path, job: UUID, name: str, tmp_path: Path) -> None:
    manifest = publish(root, "été/日本", job, content={name: b"x"})
    folder = root / "été" / "日本" / str(job)
    assert local_files.read_manifest(folder).files[0].path == name
    local_files.verify(folder, manifest)
    local_files.copy(folder, manifest, tmp_path / "copy")
    assert (tmp_path / "copy" / name).read_bytes() == b"x"


def test_file_called_like_the_manifest_is_never_replaced_by_it(root: Path, job: UUID) -> None:
    with pytest.raises(JobError, match=r"manifest\.json"):
        publish(root, "holiday", job, content={"manifest.json": b"mine"})
    assert local_files.find(root, job) is None
    assert left_in_staging(root) == []


def test_manifest_name_further_down_is_a_file_like_any_other(root: Path, job: UUID) -> None:
    manifest = publish(root, "holiday", job, content={"sub/manifest.json": b"mine"})
    folder = root / "holiday" / str(job)
    local_files.verify(folder, manifest)
    assert local_files.find(root, job) == folder


def test_staging_is_removed_on_error(root: Path, job: UUID) -> None:
    with (
        pytest.raises(RuntimeError, match="a bug"),
        local_files.open_stage(root, "holiday", job, uuid4()) as stage,
    ):
        fill(stage.files)
        fill(stage.scratch)
        raise RuntimeError("a bug")
    assert left_in_staging(root) == []
    assert not (root / "holiday").exists()


def test_staging_of_another_attempt_stays(
    root: Path, job: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with local_files.open_stage(root, "holiday", job, uuid4()) as stage:
        fill(stage.files)
        publish(root, "holiday", job, attempt=2)
        assert (stage.files / "a.bin").is_file()
        assert stage.scratch.is_dir()
    assert left_in_staging(root) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_stages_of_a_job_that_are_left_can_be_discarded(root: Path, job: UUID) -> None:
    local_files.discard_stages(root, job)
    with local_files.open_stage(root, "x", uuid4(), uuid4()) as other:
        for _ in range(2):
            with local_files.open_stage(root, "x", job, uuid4()) as stage:
                fill(stage.files)
                local_files.discard_stages(root, job)
                assert not stage.files.exists()
        assert other.files.is_dir()
    assert left_in_staging(root) == []


def test_new_folders_are_flushed_up_to_the_root(
    root: Path, job: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []

    def record(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(local_files.os, "fsync", record)
    publish(root, "trips/2026", job)
    assert flushed[-3:] == [root / "trips" / "2026", root / "trips", root]


def test_directory_inside_a_result_is_refused(root: Path, result: Path) -> None:
    for directory in (f"holiday/{result.name}", f"holiday/{result.name}/deep"):
        with pytest.raises(InvalidPayload, match="lies inside something published"):
            publish(root, directory, uuid4())
    local_files.verify(result, local_files.read_manifest(result))


def test_directory_through_a_file_is_refused(root: Path, job: UUID) -> None:
    fill(root, {"note": b"x"})
    for directory in ("note", "note/deeper"):
        with pytest.raises(JobError, match=f"'{directory}'"):
            publish(root, directory, job)
    assert (root / "note").read_bytes() == b"x"
    assert left_in_staging(root) == []


@pytest.mark.parametrize("directory", ["out", "out/deeper", "in/out"])
def test_directory_that_leaves_the_root_by_a_link_is_refused(
    root: Path, job: UUID, directory: str
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "in").mkdir()
    for link in (root / "out", root / "in" / "out"):
        link.symlink_to(outside)
    with pytest.raises(InvalidPayload, match=f"'{directory}' leads out of the results root"):
        publish(root, directory, job)
    assert list(outside.iterdir()) == []


def test_link_made_while_the_job_ran_is_refused_too(root: Path, job: UUID) -> None:
    manifest = publish(root, "elsewhere", uuid4())
    with (
        pytest.raises(InvalidPayload, match="leads out"),
        local_files.open_stage(root, "holiday", job, uuid4()) as stage,
    ):
        (root / "holiday").symlink_to(root.parent)
        local_files.publish(stage, manifest)
    assert not (root.parent / str(job)).exists()


@pytest.mark.parametrize("target", ["holiday", "loop"])
def test_link_in_a_circle_is_refused_in_one_line(root: Path, job: UUID, target: str) -> None:
    (root / "holiday").symlink_to(target)
    (root / "loop").symlink_to("holiday")
    with pytest.raises(InvalidPayload, match=r"'holiday': .*/holiday is not a folder"):
        publish(root, "holiday", job)


def test_file_where_the_staging_folder_should_be(root: Path, job: UUID) -> None:
    fill(root, {local_files.STAGING: b""})
    with pytest.raises(ResultsUnwritable, match=f"under {root}: "):
        publish(root, "holiday", job)


def test_foreign_folder_in_the_place_of_a_result_is_not_touched(root: Path, job: UUID) -> None:
    fill(root / "holiday" / str(job), {"foreign": b"x"})
    with pytest.raises(JobError):
        publish(root, "holiday", job)
    assert [p.name for p in (root / "holiday" / str(job)).iterdir()] == ["foreign"]
    assert left_in_staging(root) == []


def test_find_looks_everywhere_but_in_hidden_folders(root: Path, result: Path, job: UUID) -> None:
    deep = uuid4()
    publish(root, "a/b/c/d", deep)
    assert local_files.find(root, deep) == root / "a" / "b" / "c" / "d" / str(deep)
    assert local_files.find(root, job) == result
    assert local_files.find(root, uuid4()) is None
    assert local_files.find(root / "gone", job) is None
    with local_files.open_stage(root, "x", uuid4(), uuid4()) as stage:
        fill(stage.files, {f"{UUID(int=1)}/manifest.json": b"{}"})
        assert local_files.find(root, UUID(int=1)) is None


def _replace(file: Path, content: bytes) -> None:
    file.unlink()  # it is read-only
    file.write_bytes(content)


def spoil(result: Path, how: str) -> None:
    file = result / "a.bin"
    match how:
        case "changed":
            _replace(file, b"A" + file.read_bytes()[1:])
        case "shorter":
            _replace(file, file.read_bytes()[:-1])
        case "missing":
            file.unlink()
        case _:
            file.unlink()
            file.mkdir()


@pytest.mark.parametrize("how", ["changed", "shorter", "missing", "folder"])
def test_damage_is_found_by_name(result: Path, how: str, tmp_path: Path) -> None:
    manifest = local_files.read_manifest(result)
    spoil(result, how)
    with pytest.raises(CorruptResult, match=r"a\.bin.*run the job again"):
        local_files.verify(result, manifest)
    with pytest.raises(CorruptResult, match=r"a\.bin"):
        local_files.copy(result, manifest, tmp_path / "copy")
    assert not (tmp_path / "copy" / "manifest.json").exists()


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b"[1]", b'{"version": 2}', None])
def test_damaged_manifest_is_reported_in_one_line(result: Path, text: bytes | None) -> None:
    if text is None:
        (result / "manifest.json").unlink()
    else:
        _replace(result / "manifest.json", text)
    with pytest.raises(CorruptResult, match=r"manifest\.json cannot be read") as refused:
        local_files.read_manifest(result)
    assert "\n" not in str(refused.value)


def test_copy_goes_to_a_new_or_empty_folder_only(result: Path, tmp_path: Path) -> None:
    manifest = local_files.read_manifest(result)
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "new" / "deep", tmp_path / "empty"):
        local_files.copy(result, manifest, target)
        assert local_files.read_manifest(target) == manifest
        assert {name: (target / name).read_bytes() for name in CONTENT} == CONTENT
    for target in (tmp_path / "empty", tmp_path / "empty" / "a.bin"):
        with pytest.raises(InvalidPayload, match="is not an empty folder"):
            local_files.copy(result, manifest, target)


def test_copy_below_a_file_names_the_target(result: Path, tmp_path: Path) -> None:
    fill(tmp_path, {"note": b"x"})
    target = tmp_path / "note" / "to"
    with pytest.raises(PrefectureError, match=f"cannot be copied to {target}: Not a directory"):
        local_files.copy(result, local_files.read_manifest(result), target)


def test_copy_writes_nothing_outside_its_target(result: Path, tmp_path: Path) -> None:
    text = (result / "manifest.json").read_text().replace('"a.bin"', '"../../evil"')
    (result / "manifest.json").write_text(text)
    fill(result.parent.parent, {"evil": CONTENT["a.bin"]})
    with pytest.raises(CorruptResult):
        local_files.copy(result, local_files.read_manifest(result), tmp_path / "x/y")
    assert not (tmp_path / "evil").exists()
