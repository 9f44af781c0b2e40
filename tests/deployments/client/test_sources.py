"""Which fields of payloads are sources, and what of this machine they name."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from deployments.client.gateway.sources import (
    local_source,
)
from deployments.jobs.dependencies.sources import source_fields, texts_at, with_text
from tasks.contracts import AverageFiles, CompressImages, FindPrimes, RunContainer
from tasks.errors import InvalidPayload, SourceNotFound


def schema_of(payload: type) -> dict[str, Any]:
    """The schema of a task's parameters, as Prefect has it."""
    template = "#/definitions/{model}"
    schema: dict[str, Any] = TypeAdapter(payload).json_schema(ref_template=template)
    definitions = schema.pop("$defs", {}) | {"Payload": schema}
    reference = {"allOf": [{"$ref": "#/definitions/Payload"}]}
    return {"properties": {"payload": reference}, "definitions": definitions}


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (CompressImages, {("source",)}),
        (AverageFiles, {("source",)}),
        (FindPrimes, set[tuple[str, ...]]()),
        (RunContainer, {("inputs",), ("build", "context")}),
    ],
)
def test_fields_of_a_payload(payload: type, fields: set[tuple[str, ...]]) -> None:
    assert {*source_fields(schema_of(payload))} == fields


def test_a_source_is_replaced_where_it_is() -> None:
    payload = {"build": {"context": "here", "dockerfile": "FROM x"}, "inputs": 7}
    assert [*texts_at(payload, schema_of(RunContainer))] == [(("build", "context"), "here")]
    replaced = with_text(payload, ("build", "context"), "there")
    assert replaced == {"build": {"context": "there", "dockerfile": "FROM x"}, "inputs": 7}
    assert payload["build"] == {"context": "here", "dockerfile": "FROM x"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    for name in ("photos/a.jpg", "photos/trip/b.jpg", "photos/.c.jpg", "photos/d.png", "[e].jpg"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("photos", ["a.jpg", "d.png", "trip/b.jpg"]),
        ("./photos/", ["a.jpg", "d.png", "trip/b.jpg"]),
        ("photos/a.jpg", ["a.jpg"]),
        ("photos/../photos/*.jpg", ["a.jpg"]),
        ("photos/**/*.jpg", ["a.jpg", "trip/b.jpg"]),
        ("[e].jpg", ["[e].jpg"]),
    ],
)
def test_what_a_source_names(folder: Path, text: str, names: list[str]) -> None:
    local = local_source(text, folder)
    assert local is not None
    source, uploads = local.uploads()
    place = "/".join(uploads[0].path.split("/")[:2])
    assert [each.path.removeprefix(f"{place}/") for each in uploads] == names
    assert source.startswith(place)
    assert [each.place.read_text() for each in uploads] == [
        each.place.relative_to(folder).as_posix() for each in uploads
    ]
    absolute = local_source(f"{folder}/{text.removeprefix('./')}", Path("/"))
    assert absolute is not None
    assert absolute.uploads()[0] == source


@pytest.mark.parametrize(
    "text", ["nothing", "s3://bucket/photos", "users/anna/photos", "photos/*.gif", "", "a\0b"]
)
def test_what_is_a_name_of_the_server(folder: Path, text: str) -> None:
    (folder / "users" / "anna" / "photos").mkdir(parents=True)
    assert local_source(text, folder) is None


@pytest.mark.parametrize("text", ["./nothing", "/nowhere/at/all", "../*.gif", "~/.nothing-here"])
def test_what_can_only_be_of_this_machine(folder: Path, text: str) -> None:
    with pytest.raises(InvalidPayload, match="no file or folder of this machine"):
        local_source(text, folder)


def test_a_folder_that_leads_elsewhere_is_refused(folder: Path) -> None:
    (folder / "secret").write_text("x")
    (folder / "photos" / "link.jpg").symlink_to(folder / "secret")
    local = local_source("photos", folder)
    assert local is not None
    with pytest.raises(SourceNotFound, match=r"link\.jpg is a symbolic link out of that folder"):
        local.uploads()


def test_the_name_is_that_of_the_content(folder: Path) -> None:
    def source() -> str:
        local = local_source("photos", folder)
        assert local is not None
        return local.uploads()[0]

    before = source()
    (folder / "photos").rename(folder / "photos2")
    (folder / "photos2").rename(folder / "photos")
    assert source() == before
    (folder / "photos" / "a.jpg").write_text("other")
    changed = source()
    assert changed != before
    (folder / "photos" / "a.jpg").rename(folder / "photos" / "e.jpg")
    assert source() not in (before, changed)
