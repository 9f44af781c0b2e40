"""Detection of Dockerfile features that only BuildKit builds, each with an alternative.

Images are built with the engine's classic builder: with BuildKit, the engine's API can limit
neither the memory nor the network of a step.
"""

import re
from collections.abc import Sequence

from tasks.errors import InvalidPayload

_HEREDOC = re.compile(r"""\d*<<-?["']?[A-Za-z_]""")
# Quoted text of a command, but not the quoted name of a heredoc.
_QUOTED = re.compile(r"""(?<![<-])(["'])(?:\\.|(?!\1).)*\1""")
_PLATFORM = re.compile(r"--platform=\S*\$\{?(\w+)")
_ARG = re.compile(r"(\w+)")
_CURES = {
    "--mount": "COPY what it reads, and leave caches out",
    "--network": "the payload's `network` is that of every step",
    "--security": "no step has more rights",
    "--device": "no step has a device",
    "--chmod": "RUN chmod afterwards; a text or file that begins with #! can be executed anyway",
    "--link": "leave it out: the image is the same",
    "--parents": "COPY each folder to its place",
    "--exclude": "name the files in .dockerignore",
    "--checksum": "RUN sha256sum -c afterwards",
    "--keep-git-dir": "put the files beside the Dockerfile",
    "--unpack": "ADD without it takes a tarball apart",
}
PLATFORM_ARGS = frozenset(
    f"{side}{part}"
    for side in ("TARGET", "BUILD")
    for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
"""ARGs that BuildKit sets where a Dockerfile declares them; here to the engine's own platform."""


def refuse(instructions: Sequence[Sequence[str]]) -> None:
    """Raise InvalidPayload where an instruction needs BuildKit. `instructions`: words of each."""
    declared: set[str] = set()
    for line in instructions:
        words = list(line)
        while words and words[0].upper() == "ONBUILD":
            words = words[1:]
        if not words or words[0].startswith("#"):
            continue
        name = words[0].upper()
        if name == "ARG":
            declared |= {found[1] for word in words[1:] if (found := _ARG.match(word))}
        elif name == "FROM":
            _refuse_platform(words, declared)
        elif name in ("RUN", "COPY", "ADD"):
            _refuse_flags(name, words[1:])


def platform_args(instructions: Sequence[Sequence[str]], os: str, arch: str) -> dict[str, str]:
    """The values of the platform ARGs that a Dockerfile declares."""
    own = {"PLATFORM": f"{os}/{arch}", "OS": os, "ARCH": arch, "VARIANT": ""}
    values = {f"{side}{part}": text for side in ("TARGET", "BUILD") for part, text in own.items()}
    declared = {
        found[1]
        for words in instructions
        if words and words[0].upper() == "ARG"
        for word in words[1:]
        if (found := _ARG.match(word))
    }
    return {name: values[name] for name in declared & PLATFORM_ARGS}


def _refuse_platform(words: Sequence[str], declared: set[str]) -> None:
    for word in words[1:]:
        found = _PLATFORM.match(word)
        if found and found[1] in PLATFORM_ARGS - declared:
            raise InvalidPayload(
                f"Dockerfile: FROM {word}: {found[1]} is not known before FROM here: write ARG "
                f"{found[1]} in front of it, or leave --platform out"
            )


def _refuse_flags(name: str, words: Sequence[str]) -> None:
    for word in _QUOTED.sub("q", " ".join(words)).split():
        if _HEREDOC.match(word):
            raise _needs(f"{name} {word}", "put the text into `files`, and COPY and run that")
    for word in words:
        if not word.startswith("--"):
            return
        flag = word.partition("=")[0].lower()
        if flag in _CURES:
            raise _needs(f"{name} {word}"[:100], _CURES[flag])


def _needs(what: str, cure: str) -> InvalidPayload:
    return InvalidPayload(f"Dockerfile: {what} needs BuildKit, which is not used here: {cure}")
