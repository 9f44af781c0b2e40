"""A set of pictures as one job: every name has its place in the result, and no fault hides."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.errors import FileUnreadable, InvalidPayload, StorageUnavailable, UnreadableInput
from tasks.images import batch, transform
from tasks.images.batch import Outcome, keep_name, name_for_format, rework
from tasks.images.transform import ImageReport
from tasks.runtime.progress import Progress
from tasks.settings import get_settings
from tasks.storage.inputs.local import InputFile, LocalFile, Unreadable
from tasks.storage.inputs.s3 import S3Object, download_once, find_objects
from tasks.storage.results.local_files import open_stage
from tests.support.storage import client_of, moto_server
from tests.tasks.images.drawings import photo, save


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar that no one sees: a real one needs a Prefect server."""

    @asynccontextmanager
    async def unseen(text: str) -> AsyncGenerator[Progress]:
        yield Progress(text=text)

    monkeypatch.setattr(batch, "show_progress", unseen)


@dataclass
class Album:
    """A good picture under any name, and a record of what was worked on."""

    folder: Path
    worked_on: list[str] = field(default_factory=list[str])

    def named(self, *names: str) -> list[LocalFile]:
        return [LocalFile(name, save(self.folder / "a.jpg")) for name in names]

    def compress(self, source: Path, name: str, target: Path) -> ImageReport:
        self.worked_on.append(name)
        return transform.compress(source, name, target, 0.5)

    def rework(self, pictures: Sequence[InputFile]) -> tuple[Outcome, set[str]]:
        """The outcome, and the files that were staged."""
        with open_stage(self.folder / "results", "holiday", uuid4(), uuid4()) as stage:
            outcome = asyncio.run(rework(pictures, keep_name, self.compress, stage))
            files = (path for path in stage.files.rglob("*") if path.is_file())
            return outcome, {path.relative_to(stage.files).as_posix() for path in files}


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path)


def test_each_picture_keeps_its_name(album: Album) -> None:
    outcome, files = album.rework(album.named("a.jpg", "a/b.jpg", "sub/manifest.json"))
    assert files == {"a.jpg", "a/b.jpg", "sub/manifest.json"}
    assert outcome.summary["done"] == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../../evil.jpg"], "outside of the result"),
        (["/etc/evil.jpg"], "outside of the result"),
        (["a//b.jpg"], "outside of the result"),
        (["a", "a/b/c.jpg"], "'a' and 'a/b/c.jpg' cannot stand in one result"),
        (["x" * 256], "longer than the 255 bytes"),
    ],
)
def test_names_without_a_place_are_refused_before_the_work(
    album: Album, names: list[str], message: str
) -> None:
    with pytest.raises(InvalidPayload, match=message):
        album.rework(album.named("good.jpg", *names))
    assert album.worked_on == []
    assert not list(album.folder.rglob("evil.jpg"))


def test_picture_called_like_the_manifest_is_refused_at_once(album: Album) -> None:
    names = [f"{number}.jpg" for number in range(50)]
    with pytest.raises(InvalidPayload, match=r"manifest\.json"):
        album.rework(album.named(*names, "manifest.json"))
    assert "manifest.json" in album.worked_on
    assert len(album.worked_on) < len(names)


def test_manifest_of_an_earlier_result_is_only_reported(album: Album) -> None:
    (album.folder / "manifest.json").write_text("{}")
    manifest = LocalFile("manifest.json", album.folder / "manifest.json")
    outcome, files = album.rework([*album.named("a.jpg"), manifest])
    assert files == {"a.jpg"}
    assert [entry["source"] for entry in outcome.summary["broken"]] == ["manifest.json"]


def test_link_that_leads_nowhere_is_reported_and_the_rest_done(album: Album) -> None:
    (album.folder / "gone.jpg").symlink_to("nowhere")
    outcome, _ = album.rework(
        [*album.named("a.jpg"), LocalFile("gone.jpg", album.folder / "gone.jpg")]
    )
    (broken,) = outcome.summary["broken"]
    assert broken == {"source": "gone.jpg", "reason": "cannot be read: No such file or directory"}


def test_set_without_a_picture_is_refused(album: Album) -> None:
    (album.folder / "note").write_text("Dear Sir")
    with pytest.raises(UnreadableInput, match=r"no readable image: note: not an image"):
        album.rework([LocalFile("note", album.folder / "note")])


@dataclass(frozen=True)
class Away:
    """A picture in a store that does not answer."""

    name: str

    @asynccontextmanager
    async def local(self, scratch: Path) -> AsyncGenerator[Path]:
        raise StorageUnavailable(f"{self.name} is away")
        yield scratch

    async def is_as_listed(self) -> bool:
        return True


def test_error_keeps_its_type_and_stops_the_others(album: Album) -> None:
    names = [f"{number}.jpg" for number in range(50)]
    before = threading.active_count()
    with pytest.raises(StorageUnavailable, match=r"far\.jpg is away"):
        album.rework([Away("far.jpg"), *album.named(*names)])
    assert len(album.worked_on) < len(names)
    assert threading.active_count() == before
    assert not any((album.folder / "results" / ".staging").iterdir())


@pytest.mark.parametrize(
    ("names", "renamed"),
    [
        (["a.png", "b/a.png"], ["a.webp", "b/a.webp"]),
        (["a.png", "a.jpg"], ["a.png.webp", "a.jpg.webp"]),
        (["a.png", "a.jpg", "a.png.tif"], ["a.png.webp", "a.jpg.webp", "a.png.tif.webp"]),
        (["a", "a.b.c", ".hidden"], ["a.webp", "a.b.webp", ".hidden.webp"]),
    ],
)
def test_new_format_gives_each_picture_a_name_of_its_own(
    album: Album, names: list[str], renamed: list[str]
) -> None:
    pictures = album.named(*names)
    assert list(map(name_for_format(pictures, "webp"), pictures)) == renamed


def test_new_name_that_meets_a_folder_is_refused(album: Album) -> None:
    pictures = album.named("a.png", "a.webp/b.png")
    write = partial(transform.convert, format="webp")
    with (
        pytest.raises(InvalidPayload, match=r"'a\.webp' and 'a\.webp/b\.webp'"),
        open_stage(album.folder / "results", "holiday", uuid4(), uuid4()) as stage,
    ):
        asyncio.run(rework(pictures, name_for_format(pictures, "webp"), write, stage))


def test_objects_are_fetched_when_their_turn_comes_and_not_kept(album: Album) -> None:
    names = [f"{number:02}.jpg" for number in range(12)]
    seen: list[tuple[int, int]] = []  # at each fetch: objects on the disk, pictures done before

    async def fetch(found: S3Object, path: Path) -> None:
        await download_once(found, path)
        seen.append((sum(1 for _ in path.parent.iterdir()), len(album.worked_on)))

    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket="photos")
        for name in names:
            client.upload_file(str(save(album.folder / "a.jpg")), "photos", f"trip/{name}")
        _, files = album.rework(find_objects("s3://photos/trip/", client, fetch))
        client.close()
    assert files == set(names)
    at_once = get_settings().cpus
    assert len(seen) == len(names)
    assert max(kept for kept, _ in seen) <= at_once
    # Each picture but the first few was fetched after an earlier one was worked on.
    assert all(done > turn - at_once for turn, (_, done) in enumerate(seen))


def test_object_that_is_refused_is_reported_and_the_rest_done(album: Album) -> None:
    async def fetch(found: S3Object, path: Path) -> None:
        if "b" in found.name:
            raise FileUnreadable(f"{found.key} cannot be read: denied", "cannot be read: denied")
        path.write_bytes(picture)

    picture = save(album.folder / "a.jpg").read_bytes()
    client: Any = None
    objects = [S3Object(name, client, "photos", name, fetch) for name in ("a.jpg", "b.jpg")]
    outcome, files = album.rework(objects)
    assert files == {"a.jpg"}
    assert outcome.summary["broken"] == [{"source": "b.jpg", "reason": "cannot be read: denied"}]


def test_members_that_cannot_be_read_are_reported_and_the_rest_done(album: Album) -> None:
    bad = Unreadable("latest.jpg", "is a named pipe: remove it", "source: latest.jpg is a pipe")
    pictures = [*album.named("a.jpg"), bad]
    outcome, files = album.rework(pictures)
    assert files == {"a.jpg"}
    assert outcome.summary["broken"] == [{"source": bad.name, "reason": bad.reason}]
    # It takes no name from another.
    assert name_for_format([*album.named("latest.png"), bad], "jpeg")(bad) == "latest.jpg"


def test_set_of_which_nothing_can_be_opened_is_refused(album: Album) -> None:
    pictures = [Unreadable(f"{n}.jpg", "is a pipe", f"source 'a': {n}.jpg is a pipe") for n in "ba"]
    with pytest.raises(FileUnreadable, match=r"source 'a': a\.jpg is a pipe"):
        album.rework(pictures)


def test_fault_of_a_library_spoils_one_picture_only(album: Album) -> None:
    compress = album.compress

    def stumble(source: Path, name: str, target: Path) -> ImageReport:
        if name == "b.jpg":
            target.write_bytes(b"half")
            raise ZeroDivisionError("division by zero")
        return compress(source, name, target)

    album.compress = stumble
    outcome, files = album.rework(album.named("a.jpg", "b.jpg", "c.jpg"))
    assert files == {"a.jpg", "c.jpg"}
    (broken,) = outcome.summary["broken"]
    assert broken["reason"].startswith("could not be processed, by a fault in Prefecture")
    assert "ZeroDivisionError" not in outcome.notes


def test_picture_with_less_than_the_original_is_listed_apart(album: Album) -> None:
    frames = [photo(64, 48), photo(64, 48, shift=9)]
    save(album.folder / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    write = partial(transform.convert, format="jpeg")
    with open_stage(album.folder / "results", "holiday", uuid4(), uuid4()) as stage:
        pictures = [LocalFile("a.gif", album.folder / "a.gif")]
        outcome = asyncio.run(rework(pictures, name_for_format(pictures, "jpeg"), write, stage))
    assert outcome.summary["done"] == 0
    (reduced,) = outcome.summary["reduced"]
    assert reduced["reason"] == "left out: frame 2 of 2"
    assert outcome.summary["reports"][0]["left_out"] == ["frame 2 of 2"]
    assert "Hold less than the original (1)" in outcome.notes
