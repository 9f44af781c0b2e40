"""What a payload may hold: by pydantic in the engine, and by the JSON schema at the server."""

import math
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from flows.average_files import average_files
from flows.compress_images import compress_images
from flows.convert_images import convert_images
from flows.find_primes import find_primes
from tasks.contracts import (
    DIRECTORY_PATTERN,
    AverageFiles,
    CompressImages,
    ConvertImages,
    FindPrimes,
    Manifest,
    Payload,
    PublishedFile,
    ResultsDirectory,
)

FLOWS: dict[type[Payload], Flow[..., Any]] = {
    CompressImages: compress_images,
    ConvertImages: convert_images,
    FindPrimes: find_primes,
    AverageFiles: average_files,
}
SCHEMAS = {model: parameter_schema(flow).model_dump_for_openapi() for model, flow in FLOWS.items()}
DIRECTORY = TypeAdapter[str](ResultsDirectory)
SOURCE = "photos/*.jpg"
JOB = "01c1aa32-747f-45b2-9c6f-8f40621e261b"

GOOD: list[tuple[type[Payload], dict[str, Any]]] = [
    (CompressImages, {"source": SOURCE, "ratio": 1}),
    (CompressImages, {"source": SOURCE, "ratio": 1e-9}),
    (CompressImages, {"source": "s3://bucket/photos/", "ratio": 0.4}),
    (CompressImages, {"source": "x" * 1024, "ratio": 0.4}),
    *((ConvertImages, {"source": SOURCE, "format": f}) for f in ("jpeg", "png", "webp")),
    *((ConvertImages, {"source": SOURCE, "format": f}) for f in ("avif", "tiff")),
    (FindPrimes, {"upper_bound": 2}),
    (FindPrimes, {"upper_bound": 10**10}),
    (AverageFiles, {"source": "numbers/*.csv"}),
    (AverageFiles, {"source": "numbers", "also": ["csv", "npy"], "not_finite": "skip"}),
    (AverageFiles, {"generate": {"files": 1, "numbers": 10**8}}),
    (AverageFiles, {"generate": {"files": 3, "numbers": 5, "seed": 7, "format": "csv"}}),
]
BAD: list[tuple[type[Payload], dict[str, Any], str]] = [
    *((CompressImages, {"source": SOURCE, "ratio": r}, "ratio") for r in (0, -1, 1.5, 10**400)),
    *((CompressImages, {"source": SOURCE, "ratio": r}, "ratio") for r in ("x", None, math.inf)),
    (CompressImages, {"source": SOURCE}, "ratio"),
    (CompressImages, {"ratio": 0.5}, "source"),
    (CompressImages, {"source": SOURCE, "ratio": 0.5, "quality": 3}, "quality"),
    *((ConvertImages, {"source": SOURCE, "format": f}, "format") for f in ("gif", "JPEG", "", 1)),
    (ConvertImages, {"source": SOURCE, "format": "png", "ratio": 0.5}, "ratio"),
    *((AverageFiles, {"source": s}, "source") for s in ("", "/etc", 7)),
    (AverageFiles, {"source": "a", "also": "csv"}, "also"),
    (AverageFiles, {"source": "a", "not_finite": "zero"}, "not_finite"),
    *((FindPrimes, {"upper_bound": n}, "upper_bound") for n in (1, 0, -5, 10**10 + 1, 2.5, "x")),
    (FindPrimes, {"upper_bound": 10, "lower_bound": 2}, "lower_bound"),
    *(
        (ConvertImages, {"source": source, "format": "png"}, "source")
        for source in ("", "/etc/passwd", "a\\b", "a\n", "a\x00", "\x7f", "a\x85b", "x" * 1025, 7)
    ),
]
GOOD_DIRECTORIES = [
    *("holiday", "trips/2026", "a", "a b", "été", "日本/東京", "a.b", "a..b", "-x", "~", "$HOME"),
    *(f"x{JOB}", f"{JOB}x", f"{JOB}.x/y", JOB[1:]),
    *("{x}", "a:b", "x" * 128, "é" * 127, "photos/2026/07/31", "😀"),
]
BAD_DIRECTORIES = [
    *("", ".", "..", "../x", "a/..", "a/../b", "a/./b", "./a", "/a", "/", "//", "a//b", "a/"),
    *(".hidden", "a/.hidden", ".staging", ".prefect", "...", "a\\b", "\\", "..\\x"),
    *("a\n", "\na", "a\nb", "a\r", "a\tb", "a\x00", "\x1b[31m", "a\x7f", "a\x80", "a\x9f"),
    *("a\u2028", "a\u2029b", "a/\n", "a\n/b", "x" * 129, "a/" * 64 + "b"),
]


def at_server(model: type[Payload], payload: object, directory: object = "holiday") -> None:
    """What the API does with a request, before it makes a flow run."""
    parameters = {"payload": payload, "results_directory": directory}
    validate(parameters, SCHEMAS[model], raise_on_error=True, ignore_required=True)


@pytest.mark.parametrize(("model", "payload"), GOOD)
def test_good_payload_passes_server_and_engine(
    model: type[Payload], payload: dict[str, Any]
) -> None:
    at_server(model, payload)
    assert model.model_validate(payload).model_dump(exclude_unset=True) == payload


@pytest.mark.parametrize(("model", "payload", "field"), BAD)
def test_bad_payload_is_refused_by_the_engine_naming_the_field(
    model: type[Payload], payload: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(payload)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize(("model", "payload", "field"), [b for b in BAD if b[2] in b[1]])
def test_bad_payload_is_refused_by_the_server_naming_the_field(
    model: type[Payload], payload: dict[str, Any], field: str
) -> None:
    with pytest.raises(SchemaError, match=field):
        at_server(model, payload)


@pytest.mark.parametrize(
    ("generate", "field"),
    [
        *(({"files": n, "numbers": 5}, "files") for n in (0, -1, 2.5, "x")),
        *(({"files": 5, "numbers": n}, "numbers") for n in (0, 10**8 + 1)),
        ({"files": 5}, "numbers"),
        ({"files": 5, "numbers": 1, "format": "xls"}, "format"),
        ({"files": 5, "numbers": 1, "seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_generated_is_refused_naming_the_field(
    generate: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        AverageFiles.model_validate({"generate": generate})
    assert [error["loc"] for error in refused.value.errors()] == [("generate", field)]
    if field in generate:
        with pytest.raises(SchemaError, match=rf"payload\.generate\.{field}"):
            at_server(AverageFiles, {"generate": generate})


@pytest.mark.parametrize("both", [{}, {"source": "a", "generate": {"files": 1, "numbers": 1}}])
def test_one_source_is_wanted(both: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="name either a source, or files to generate"):
        AverageFiles.model_validate(both)


def test_ratio_that_is_no_number_is_refused_by_the_engine_at_the_latest() -> None:
    # JSON has no NaN, Python's parser takes one, and no bound of a JSON schema refuses it.
    with pytest.raises(ValidationError, match="ratio"):
        CompressImages.model_validate({"source": SOURCE, "ratio": math.nan})


@pytest.mark.parametrize("payload", [None, [], "x", 7])
@pytest.mark.parametrize("model", FLOWS)
def test_payload_that_is_no_object_is_refused(model: type[Payload], payload: object) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(payload)
    with pytest.raises(SchemaError, match="payload"):
        at_server(model, payload)


@pytest.mark.parametrize("directory", GOOD_DIRECTORIES)
def test_good_directory_passes_server_and_engine(directory: str) -> None:
    assert DIRECTORY.validate_python(directory) == directory
    at_server(FindPrimes, {"upper_bound": 10}, directory)


@pytest.mark.parametrize("directory", [*BAD_DIRECTORIES, None, 7])
@pytest.mark.parametrize("model", FLOWS)
def test_bad_directory_is_refused_by_server_and_engine(
    model: type[Payload], directory: object
) -> None:
    payload = next(payload for of, payload in GOOD if of is model)
    with pytest.raises(ValidationError):
        DIRECTORY.validate_python(directory)
    with pytest.raises(SchemaError, match="results_directory"):
        at_server(model, payload, directory)


def test_message_about_a_directory_is_one_line_that_says_what_to_use() -> None:
    with pytest.raises(ValidationError) as refused:
        DIRECTORY.validate_python("a\n../b")
    message = refused.value.errors()[0]["msg"]
    assert "'a\\n../b'" in message
    assert "such as 'holiday'" in message
    assert "\n" not in message


@pytest.mark.parametrize("directory", [JOB, f"a/{JOB}", f"{JOB}/b", f"a/{JOB}/b"])
def test_the_place_of_another_job_is_refused_by_the_engine(directory: str) -> None:
    with pytest.raises(ValidationError, match="or a job id"):
        DIRECTORY.validate_python(directory)


def test_segment_too_long_for_a_file_name_is_refused_by_the_engine() -> None:
    # A schema counts characters, a file system bytes: 85 of three bytes fit, 86 do not.
    assert DIRECTORY.validate_python("日" * 85 + "/" + "日" * 42)
    with pytest.raises(ValidationError, match="255 bytes"):
        DIRECTORY.validate_python("日" * 86)


tricky = st.text(alphabet=st.sampled_from("a.é/\\ \n\t\x00\x7f\x85\u2028~*"), max_size=8)


@given(st.one_of(st.text(max_size=130), tricky))
@example("..")
@example("a/../../b")
@example("a\n")
def test_no_accepted_directory_leaves_the_root_or_hides(text: str) -> None:
    try:
        accepted = DIRECTORY.validate_python(text)
    except ValidationError:
        return
    root = Path("/nowhere/results")
    assert (root / accepted).resolve().is_relative_to(root)
    assert (root / accepted).resolve() != root
    assert not any(segment.startswith(".") for segment in accepted.split("/"))
    assert (root / accepted).relative_to(root).as_posix() == accepted
    assert accepted.splitlines() == [accepted]
    assert all(len(name.encode()) <= 255 for name in (root / accepted).parts)


@given(st.one_of(st.text(max_size=130), tricky))
def test_server_and_engine_agree_on_every_directory_that_fits_a_file_name(text: str) -> None:
    try:
        DIRECTORY.validate_python(text)
    except ValidationError as error:
        in_engine = "255 bytes" in str(error)
    else:
        in_engine = True
    at_the_server = re.search(DIRECTORY_PATTERN, text) is not None and 1 <= len(text) <= 128
    assert at_the_server == in_engine


@given(st.text(alphabet=string.ascii_lowercase + "/", min_size=100, max_size=128))
def test_pattern_never_backtracks_for_long(text: str) -> None:
    re.search(DIRECTORY_PATTERN, text + "\n")


@pytest.mark.parametrize("model", FLOWS)
def test_form_says_what_a_results_directory_is(model: type[Payload]) -> None:
    shown = SCHEMAS[model]["properties"]["results_directory"]
    assert shown["title"] == "Results directory"
    assert shown["description"].startswith("A name such as holiday")


@pytest.mark.parametrize("digest", ["", "x", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_published_file_needs_a_sha256(digest: str) -> None:
    with pytest.raises(ValidationError, match="sha256"):
        PublishedFile(path="a", bytes=0, sha256=digest)


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/passwd", "a/../../evil", "", ".", "a//b", "a/.", "a\0"]
)
def test_published_file_lies_inside_its_result(path: str) -> None:
    # `prefecture results --to` writes where the manifest says.
    with pytest.raises(ValidationError, match="path"):
        PublishedFile(path=path, bytes=0, sha256="a" * 64)


def test_manifest_counts_its_bytes_and_survives_json() -> None:
    moment = "2026-01-01T00:00:00Z"
    manifest = Manifest.model_validate(
        {
            "job": JOB,
            "task": "find-primes",
            "attempt": 1,
            "flow_run": "5b77f14c-ab5e-4991-a8af-4ebeed6b9a91",
            "parameters": {"payload": {"upper_bound": 10}},
            **dict.fromkeys(("submitted", "started", "published"), moment),
            "summary": {},
            "files": [
                {"path": name, "bytes": size, "sha256": "0" * 64}
                for name, size in (("a/é", 3), ("b", 4))
            ],
        }
    )
    assert manifest.bytes == 7
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
