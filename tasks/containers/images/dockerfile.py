"""Reading of Dockerfiles: their instructions, and what must not be built here."""

import re
from collections.abc import Sequence

from tasks.containers.images import buildkit
from tasks.errors import InvalidPayload


def check_dockerfile(text: str | None, in_folders: Sequence[str] = ()) -> str:
    """Return the text of a Dockerfile that can be built here.

    `in_folders`: other Dockerfiles, which are named where it is missing.

    Raises InvalidPayload where there is none, where it needs BuildKit, and where an ADD has a URL:
    the engine would fetch it through its own network, which reaches the API.
    """
    if text is None:
        other = f", but {in_folders[0]}" if in_folders else ""
        raise InvalidPayload(
            f"the build's files hold no Dockerfile{other}: put one at their top, or give its text"
        )
    buildkit.refuse(instructions(text))
    # With either escape character, since the one in force is not known for certain.
    for escape in "\\`":
        for words in _instructions(text, escape):
            while words and words[0].upper() == "ONBUILD":
                words = words[1:]
            if words and words[0].upper() == "ADD" and any(map(_is_remote, words[1:])):
                raise InvalidPayload(
                    f"Dockerfile: {' '.join(words)[:100]}: ADD cannot fetch an address here, nor "
                    "take a name with a variable or an escape: put the file beside the Dockerfile"
                )
    return text


def instructions(text: str) -> list[Sequence[str]]:
    """The words of each instruction of a Dockerfile, continued lines joined."""
    declared = re.search(r"\A(?:#.*\n)*#\s*escape\s*=\s*`", text, re.IGNORECASE)
    return _instructions(text, "`" if declared else "\\")


def _is_remote(word: str) -> bool:
    """Whether the engine may read a word as a URL, after it removes quotes."""
    bare = re.sub("[\"'`]", "", word).lower()
    return "$" in bare or "\\" in bare or "://" in bare or "git@" in bare


def _instructions(text: str, escape: str) -> list[Sequence[str]]:
    """The words of each instruction, continued lines joined, with the given escape character."""
    joined: list[str] = []
    goes_on = False
    for line in text.splitlines():
        bare = line.strip()
        if goes_on and (not bare or bare.startswith("#")):
            continue  # the engine skips these inside an instruction
        more = bare.endswith(escape)
        bare = bare.removesuffix(escape)
        if goes_on:
            joined[-1] += bare
        else:
            joined.append(bare)
        goes_on = more
    return [line.split() for line in joined]
