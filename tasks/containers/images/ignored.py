"""`.dockerignore`: which files are left out of a context, by the rules of Docker's own matcher.

The rules are those of github.com/moby/patternmatcher. docker-py's version differs: it ignores case
and does not support backslashes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.errors import InvalidPayload

IGNORE_FILE = ".dockerignore"
IGNORE_FILES = ("Dockerfile.dockerignore", IGNORE_FILE)
"""Names of the file; the first that exists is used."""
_MOST_BYTES = 2**20  # of the file


@dataclass(frozen=True)
class _Pattern:
    matches: re.Pattern[str]
    includes: bool
    """Whether it began with `!`: it includes files that earlier patterns leave out."""


class Ignored:
    """The patterns of one file; the last one that matches a path decides."""

    def __init__(self, text: str = "") -> None:
        """Parse the patterns. Raises InvalidPayload where one is invalid."""
        self._patterns = list(_patterns(text))

    @property
    def is_final(self) -> bool:
        """Whether no pattern includes files again inside a folder that is left out."""
        return not any(pattern.includes for pattern in self._patterns)

    def leaves_out(self, path: str) -> bool:
        """Whether a file, folder or link is left out: it matches, or a folder around it does."""
        parts = path.split("/")
        names = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        out = False
        for pattern in self._patterns:
            if pattern.includes == out and any(pattern.matches.fullmatch(name) for name in names):
                out = not pattern.includes
        return out


def read(data: bytes) -> str:
    """Decode such a file. Raises InvalidPayload where it is not UTF-8 or larger than 1 MiB."""
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError("it is larger than 1 MiB")
        return data.decode("utf-8-sig")
    except ValueError as error:
        raise InvalidPayload(f"{IGNORE_FILE} cannot be read: {error}: write it again") from error


def _patterns(text: str) -> Iterator[_Pattern]:
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.strip()
        if not words or line.startswith("#"):
            continue
        includes = words.startswith("!")
        cleaned = _cleaned(words.removeprefix("!").strip())
        if includes and not words[1:].strip():
            raise _refused(number, line, "there is nothing behind the !")
        if cleaned == ".":
            continue  # Docker ignores it, for historical reasons
        try:
            yield _Pattern(re.compile(_translated(cleaned), re.DOTALL), includes)
        except (re.error, ValueError) as error:
            raise _refused(number, line, str(error)) from error


def _refused(number: int, line: str, why: str) -> InvalidPayload:
    return InvalidPayload(f"{IGNORE_FILE}, line {number}: {line!r} is no pattern: {why}")


def _cleaned(pattern: str) -> str:
    """Clean a pattern like Go's filepath.Clean, without a slash in front."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and pattern.startswith("/"):
            continue
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


def _translated(pattern: str) -> str:
    """A regular expression that the whole of a path must match."""
    made = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if pattern.startswith("*", at) and char == "*":
            at += 1
            if pattern.startswith("/", at):
                at += 1
            # Any number of folders, or none; at the end of a pattern, anything.
            made += "(.*/)?" if at < len(pattern) else ".*"
        elif char == "*":
            made += "[^/]*"
        elif char == "?":
            made += "[^/]"
        elif char == "\\":
            if at == len(pattern):
                raise ValueError("there is nothing behind the \\")
            made += re.escape(pattern[at])
            at += 1
        elif char == "[":
            found = re.compile(r"\^?(?:\\.|[^\]\\])+\]").match(pattern, at)
            if found is None:
                raise ValueError("a [ without its ]")
            made += "(?!/)[" + found[0].replace("[", "\\[")
            at = found.end()
        else:
            made += re.escape(char)
    return made
