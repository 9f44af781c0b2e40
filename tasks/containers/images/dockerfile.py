"""Reading of Dockerfiles: their instructions, and what must not be built here."""

import re
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

from tasks.containers.images import buildkit
from tasks.errors import InvalidPayload

_ESCAPE = re.compile(r"^[\s\ufeff]*#\s*escape\s*=\s*`", re.IGNORECASE | re.MULTILINE)
# ${NAME:-text} is the text where NAME is empty, ${NAME:+text} where it is not.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^${}]*))?\})")
_NAME = re.compile(r"\w[\w.:/@-]*")
_COPIED = re.compile(r"--from=(\S*)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,3}")  # of a stage


class Base(NamedTuple):
    """An image that a Dockerfile builds on."""

    name: str
    platform: str
    """Such as linux/arm64; empty for the engine's own."""


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
    for lines in _readings(text):
        for words in lines:
            while words and words[0].upper() == "ONBUILD":
                words = words[1:]
            if fetches(words):
                raise InvalidPayload(
                    f"Dockerfile: {' '.join(words)[:100]}: ADD cannot fetch an address here, nor "
                    "take a name with a variable or an escape: put the file beside the Dockerfile"
                )
    return text


def instructions(text: str) -> list[Sequence[str]]:
    """The words of each instruction of a Dockerfile, continued lines joined."""
    declared = re.search(r"\A(?:#.*\n)*#\s*escape\s*=\s*`", text, re.IGNORECASE)
    return _instructions(text, "`" if declared else "\\")


def fetches(words: Sequence[str]) -> bool:
    """Whether the engine may fetch an address for an instruction."""
    return bool(words) and words[0].upper() == "ADD" and any(map(_is_remote, words[1:]))


def trigger_fetches(text: str) -> bool:
    """Whether the engine may fetch an address for a trigger of an image (ONBUILD).

    The engine reads it like a Dockerfile, with comments and continued lines.
    """
    return any(fetches(words) for lines in _readings(text) for words in lines)


def copied_from(text: str) -> list[str]:
    """The images, and named stages, that a Dockerfile or a trigger copies files from."""
    found: list[str] = []
    for lines in _readings(text):
        for words in lines:
            if words and words[0].upper() in ("COPY", "ONBUILD"):
                # The engine removes quotes and escapes from flags, too.
                found += _COPIED.findall(re.sub(r"[\"'`\\]", "", " ".join(words)))
    return [name for name in dict.fromkeys(found) if not _NUMBER.fullmatch(name)]


def bases(text: str, args: Mapping[str, str], target: str = "") -> list[Base]:
    """The images that a Dockerfile builds on, as far as the stage `target`, empty for the last.

    `args`: values of its ARGs. Raises InvalidPayload where a name cannot be read.
    """
    escapes = "\\`" if _ESCAPE.search(text) else "\\"
    found = (_bases(lines, args, target.lower()) for lines in _readings(text, escapes))
    return list(dict.fromkeys(base for some in found for base in some))


def _bases(lines: Sequence[Sequence[str]], args: Mapping[str, str], target: str) -> Generator[Base]:
    values: dict[str, str] = {}
    stages: list[str] = []
    for line in lines:
        instruction, *words = line or ("",)
        if instruction.upper() == "ARG" and not stages:
            for name, _, default in (word.partition("=") for word in words):
                values[name] = args.get(name, _resolved(default.strip("\"'"), values))
        elif instruction.upper() == "FROM":
            flags = [word for word in words if word.startswith("--")]
            image, *name = [word for word in words if word not in flags] or [""]
            base = Base(_resolved(image, values), _platform(flags, values))
            if base.name.lower() not in (*stages, "scratch"):
                yield _checked(base, image)
            stages.append(name[1].lower() if len(name) > 1 else "")
            if target and target in (stages[-1], str(len(stages) - 1)):
                return


def _checked(base: Base, word: str) -> Base:
    if not _NAME.fullmatch(base.name):
        raise InvalidPayload(
            f"Dockerfile: FROM {word[:100]}: the name of the image cannot be read here: write it "
            "without quotes and escapes, and give its ARG a value before FROM"
        )
    return base


def _platform(flags: Sequence[str], values: Mapping[str, str]) -> str:
    given = (flag.partition("=") for flag in flags)
    return next((_resolved(to, values) for name, _, to in given if name == "--platform"), "")


def _resolved(word: str, values: Mapping[str, str]) -> str:
    """A word with the values of its variables."""

    def value(found: re.Match[str]) -> str:
        plain, name, sign, text = found.groups()
        known = values.get(plain or name, "")
        if sign == "-":
            return known or text
        return (text if known else "") if sign == "+" else known

    return _VARIABLE.sub(value, word)


def _is_remote(word: str) -> bool:
    """Whether the engine may read a word as a URL, after it removes quotes."""
    bare = re.sub("[\"'`]", "", word).lower()
    return "$" in bare or "\\" in bare or "://" in bare or "git@" in bare


def _readings(text: str, escapes: str = "\\`") -> Generator[list[Sequence[str]]]:
    """The instructions of a Dockerfile, in each way in which an engine may read them.

    Engines differ in where they look for the escape character, and in whether a line that ends with
    two of them goes on.
    """
    for escape in escapes:
        for doubled in (True, False):
            yield _instructions(text, escape, doubled=doubled)


def _instructions(text: str, escape: str, *, doubled: bool = True) -> list[Sequence[str]]:
    """The words of each instruction, continued lines joined, with the given escape character.

    `doubled`: whether a line that ends with two of these goes on.
    """
    joined: list[str] = []
    goes_on = False
    # Lines end, and go on, where they do for the engine: splitlines() and strip() find more.
    for line in text.removeprefix("\ufeff").split("\n"):
        whole = line.rstrip("\r").rstrip(" \t")
        bare = whole.strip()
        if bare.startswith("#") or (goes_on and not bare):
            continue  # the engine skips these, also inside an instruction
        more = whole.endswith(escape) and (doubled or not whole.endswith(escape * 2))
        kept = whole.removesuffix(escape) if more else whole
        if goes_on:
            joined[-1] += kept
        else:
            joined.append(kept)
        goes_on = more
    return [line.split() for line in joined]
