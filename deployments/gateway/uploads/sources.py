"""Whether a source may name files of users other than its own, or outside the places that an
operator has named, in whatever spelling.

A store or a proxy may take two spellings for the same: a source is read in all these ways, and in
doubt it names the files of others.
"""

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

from tasks.contracts import S3_SCHEME, S3Address
from tasks.storage.inputs.local import Glob, is_glob

_DECODED = 3  # times: percent signs may be percent signs encoded


def names_others(path: str, base: Sequence[str], user: str) -> bool:
    """Whether a path, folder or glob may name files of another user than `user`.

    `base`: the parts of the folder of all users.
    """
    return any(
        _is_above(parts, users, user) or _matches(parts, users, user)
        for spelling in spellings(path)
        for users, parts in (
            ([*base], _parts(spelling)),
            ([part.casefold() for part in base], _parts(spelling.casefold())),
            ([part.casefold() for part in base], _resolved(spelling.casefold())),
        )
    )


def is_within(source: str, places: Iterable[S3Address]) -> bool:
    """Whether all objects that a source in S3 may name, read in any spelling, are in these
    places."""
    for spelling in spellings(source[len(S3_SCHEME) :]):
        parts = spelling.split("/")
        if ".." in parts or not any(_is_in(spelling, place) for place in places):
            return False
    return True


def _is_in(spelling: str, place: S3Address) -> bool:
    # A glob in the name of a place's folder is none of its letters.
    bucket, _, key = spelling.partition("/")
    return bucket == place.bucket and f"{key}/".startswith(place.key(""))


def spellings(text: str) -> Iterator[str]:
    """A text, and what it is with its percent signs decoded, once and more often."""
    for _ in range(_DECODED):
        yield text
        if (decoded := unquote(text)) == text:
            return
        text = decoded


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _resolved(path: str) -> list[str]:
    found: list[str] = []
    for part in _parts(path):
        if part == "..":
            del found[-1:]
        else:
            found.append(part)
    return found


def _is_above(parts: Sequence[str], users: Sequence[str], user: str) -> bool:
    """Whether a path is of another user, or of a folder that has those of all users."""
    if len(parts) <= len(users):
        return [*users[: len(parts)]] == [*parts]
    return [*parts[: len(users)]] == [*users] and parts[len(users)] != user


def _matches(parts: Sequence[str], users: Sequence[str], user: str) -> bool:
    """Whether a glob may match a file of another user."""
    if not any(is_glob(part) for part in parts):
        return False
    glob = Glob("/".join(parts))
    state = glob.start
    for name in users:
        state = glob.step(state, name)
    # A user's folder is no file: what matches has a part more.
    return any(
        parts[place] == "**" or (place + 1 < len(parts) and parts[place] != user)
        for place in state
        if place < len(parts)
    )
