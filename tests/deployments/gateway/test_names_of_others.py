"""Sources that may name what other users have uploaded, in whatever spelling."""

from pathlib import Path
from typing import NoReturn

import pytest

from deployments.gateway.uploads.disk import DiskStore
from deployments.gateway.uploads.s3 import S3Store
from deployments.gateway.uploads.sources import is_within
from tasks.contracts import S3Address

OF_OTHERS = [
    *("users/bob", "users/bob/a.csv", "users", "users/", ".", "./.", "users/annabel/x"),
    *("users//bob/a", "./users/./bob/a", "users/anna/../bob/a", "photos/../users/bob/a"),
    *("Users/bob/a", "USERS/BOB/a", "users/Bob/a", "photos/.."),
    *("users%2Fbob/a", "users/%62ob/a", "users%252fbob/a", "users/anna/%2e%2e/bob/a"),
    *("users/*/a.csv", "users/ann*/a.csv", "users/[b]ob/a", "*/*/a.csv", "u?ers/bob/*"),
    *("**", "**/*.csv", "**/anna/*", "users/**", "users/*/**", "[T-v]sers/*/x", "U*/**"),
]
OWN = [
    *("users/anna", "users/anna/", "users/anna/a.csv", "users//anna/a", "users/anna/**/*.csv"),
    *("users/anna/*/b", "users/anna/x/../y", "users/anna/50%/a", "users/anna/bob%2Fa"),
    *(
        "photos",
        "photos/bob",
        "photos/users/bob",
        "photos/*/bob/x",
        "*.csv",
        "photos/**",
        "usersx/b",
    ),
]


@pytest.mark.parametrize("source", OF_OTHERS)
def test_names_that_may_be_of_others(source: str) -> None:
    assert DiskStore(Path("/inputs")).has_of_others("anna", source)
    for prefix in ("", "team", "team/up"):
        place = f"s3://uploads/{prefix}/{source}" if prefix else f"s3://uploads/{source}"
        assert store(prefix).has_of_others("anna", place)


@pytest.mark.parametrize("source", OWN)
def test_names_that_are_none_of_others(source: str) -> None:
    assert not DiskStore(Path("/inputs")).has_of_others("anna", source)
    for prefix in ("", "team", "team/up"):
        place = f"s3://uploads/{prefix}/{source}" if prefix else f"s3://uploads/{source}"
        assert not store(prefix).has_of_others("anna", place)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        *(("s3://uploads", True), ("s3://uploads/", True), ("s3://uploads/team", True)),
        *(("s3://uploads//team/users/bob", True), ("s3:///uploads/team/users/bob", True)),
        *(("s3://UPLOADS/team/users/bob", True), ("S3://uploads/team/users/bob", True)),
        *(("s3://upl%6fads/team/users/bob", True), ("s3://uploads%2Fteam/users/bob", True)),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint:x/team/users/bob", True),
        *(("s3://x-abc-s3alias/team/users/bob", True), ("s3://uploads/*/users/bob/a", True)),
        *(("s3://uploads/te*m/**", True), ("s3://uploads/**", True)),
        *(("s3://uploads/other", False), ("s3://uploads/*.csv", False), ("s3://photos", False)),
        *(("s3://photos/team/users/bob", False), ("job://x/users/bob", False)),
        ("s3://uploads/other/users/bob", False),
    ],
)
def test_addresses_of_a_bucket(source: str, expected: bool) -> None:
    assert store("team").has_of_others("anna", source) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        *(("s3://photos/shared/a.csv", True), ("s3://photos/shared", True)),
        *(("s3://photos/shared/**/*.csv", True), ("s3://photos/shared/a%2Fb", True)),
        *(("s3://reference", True), ("s3://reference/any/**", True), ("s3://other/a", False)),
        *(("s3://photos", False), ("s3://photos/", False), ("s3://photos/share*/a", False)),
        *(("s3://photos/sharedx/a", False), ("s3://photos/**", False), ("s3://*/shared/a", False)),
        *(("s3://photos/shared/../a", False), ("s3://photos/shared/%2e%2e/a", False)),
        *(("s3://photos%2Fshared/a", False), ("s3:///photos/shared/a", False)),
        ("s3://PHOTOS/shared/a", False),
    ],
)
def test_sources_in_the_places_of_an_operator(source: str, expected: bool) -> None:
    places = [S3Address("photos", "shared"), S3Address("reference", "")]
    assert is_within(source, places) is expected


def store(prefix: str) -> S3Store:
    def connect() -> NoReturn:
        raise AssertionError("names are compared without S3")

    return S3Store(S3Address("uploads", prefix), connect)
