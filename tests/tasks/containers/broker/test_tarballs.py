"""Which tarballs the broker reads: plain ones, whatever else a job may send."""

import io
import tarfile

import pytest

from tasks.containers.broker import tarballs
from tasks.containers.broker.http import Refused


def packed(*infos: tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    """A tarball of these members, each of `size` zeros."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    file.seek(0)
    return file


def member(name: str, size: int = 0, type: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type
    return info


def test_plain_members_with_long_names() -> None:
    long = "folder/" + "é" * 120
    link = member("a-link", type=tarfile.SYMTYPE)
    link.linkname = long
    file = packed(
        member("./small", 5), member(long, 700), member("sub", type=tarfile.DIRTYPE), link
    )
    found = [
        (each.name, each.size, each.linkname, len(file.read(each.size)))
        for each in tarballs.members(file)
    ]
    assert found == [
        ("small", 5, "", 5),
        (long, 700, "", 700),
        ("sub", 0, "", 0),
        ("a-link", 0, long, 0),
    ]


@pytest.mark.parametrize(
    "type",
    [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE],
)
def test_members_that_are_no_plain_ones(type: bytes) -> None:
    with pytest.raises(Refused, match="a context cannot have the member x"):
        list(tarballs.members(packed(member("x", type=type))))


def test_names_of_gnu_and_sizes_of_an_extended_head() -> None:
    with pytest.raises(Refused, match="a context cannot have the member"):
        list(tarballs.members(packed(member("x" * 200), format=tarfile.GNU_FORMAT)))
    sized = member("x", 3)
    sized.pax_headers = {"GNU.sparse.realsize": str(2**60)}
    with pytest.raises(Refused, match=r"a context cannot have the field GNU\.sparse\.realsize"):
        list(tarballs.members(packed(sized)))


def test_a_negative_size() -> None:
    head = bytearray(packed(member("x", 1)).read(512))
    head[124:136] = b"\xff" * 12  # minus one, in base 256
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(Refused, match="a negative size"):
        list(tarballs.members(io.BytesIO(bytes(head) + bytes(1024))))


def test_more_members_than_a_context_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarballs, "_MOST_MEMBERS", 2)
    with pytest.raises(Refused, match="may have 2 members"):
        list(tarballs.members(packed(*(member(f"{number}") for number in range(5)))))


@pytest.mark.parametrize("kept", [100, 512, 700])
def test_one_that_is_cut_short(kept: int) -> None:
    file = io.BytesIO(packed(member("x", 600)).read()[:kept])
    with pytest.raises((Refused, tarfile.TarError, ValueError)):
        list(tarballs.members(file))
