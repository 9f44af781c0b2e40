"""What a Dockerfile may say: the engine's classic builder builds it, and fetches nothing itself."""

import pytest

from tasks.containers.images.dockerfile import bases, check_dockerfile
from tasks.errors import InvalidPayload


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM x\nRUN <<EOF\necho hello\nEOF", "RUN <<EOF needs BuildKit"),
        ("FROM x\nRUN python3 - <<'PY'\nprint()\nPY", "RUN <<'PY' needs BuildKit"),
        ("FROM x\nCOPY <<-EOF /run.sh\n#!/bin/sh\nEOF", "put the text into `files`"),
        ("FROM x\nRUN --mount=type=cache,target=/root/.cache pip install x", "RUN --mount="),
        ("FROM x\nRUN --network=none \\\n --mount=type=bind,source=a true", "--network=none"),
        ("FROM x\nCOPY --chmod=755 run.sh /", "COPY --chmod=755 needs BuildKit"),
        ("FROM x\ncopy --chown=1 --link a /", "COPY --link needs BuildKit"),
        ("FROM x\nADD --checksum=sha256:0 a.tar /", "ADD --checksum=sha256:0 needs BuildKit"),
        ("FROM x\nCOPY --exclude=*.md . /", "name the files in .dockerignore"),
        ("FROM x\nCOPY --parents a/b /x", "COPY --parents needs BuildKit, which is not used here"),
        ("FROM x\nADD --chmod=0644 a /", "ADD --chmod=0644 needs BuildKit"),
        ("FROM x\nADD --link a /", "ADD --link needs BuildKit"),
        ("FROM x\nADD --exclude=b a /", "ADD --exclude=b needs BuildKit"),
        ("FROM x\nADD --keep-git-dir=true a /", "ADD --keep-git-dir=true needs BuildKit"),
        ("FROM x\nADD --unpack=true a /", "ADD --unpack=true needs BuildKit"),
        ("FROM x\nADD <<EOF /x\nEOF", "ADD <<EOF needs BuildKit"),
        ("FROM x\nRUN cat <<EOF > /x\nEOF", "RUN <<EOF needs BuildKit"),
        ("FROM x\nRUN --security=insecure true", "RUN --security=insecure needs BuildKit"),
        ("FROM x\nRUN --device=nvidia.com/gpu true", "RUN --device=nvidia.com/gpu needs"),
        ("FROM x\nONBUILD RUN --mount=type=secret,id=a true", "RUN --mount=type=secret"),
        ("FROM --platform=$BUILDPLATFORM x\nARG BUILDPLATFORM", "write ARG BUILDPLATFORM in front"),
        ("# escape=`\nFROM x\nRUN `\n --mount=type=tmpfs,target=/x dir", "RUN --mount="),
    ],
)
@pytest.mark.parametrize(
    "written",
    ["{}", "# syntax=docker/dockerfile:1\n{}", "# syntax = docker/dockerfile:1-labs\n\n{}"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_only_buildkit_builds_is_named_before_the_build(
    text: str, said: str, written: str, end: str
) -> None:
    if text.startswith("# escape") and "\n\n" in written:
        written = "{}"  # a directive behind an empty line is a comment
    with pytest.raises(InvalidPayload) as refused:
        check_dockerfile(written.format(text).replace("\n", end))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "# syntax=docker/dockerfile:1\nFROM x\nRUN echo $((1<<2)) <<< a",
        'FROM x\nCMD ["--mount=x"]\nRUN ["echo", "--mount=type=cache", "<<EOF"]',
        "ARG BUILDPLATFORM\nFROM --platform=$BUILDPLATFORM x",
        "FROM --platform=linux/amd64 x AS a\nCOPY --from=a --chown=1:1 /x /x",
        "FROM x\n# RUN <<EOF\nRUN echo --mount=type=cache",
        "FROM x\nRUN cat a; echo '<<EOF'",
        'FROM x\nRUN sh -c "cat <<EOF\\nhello\\nEOF"',
        "FROM x\nRUN echo 'it is <<EOF that is meant'",
    ],
)
def test_what_the_first_builder_knows_passes(text: str) -> None:
    assert check_dockerfile(text) == text


ESCAPED = "# escape=`\nFROM x\nRUN dir \\\nADD http://127.0.0.1/ /x"


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nADD http://127.0.0.1:4200/api/ /x",
        "FROM x\n  add --chown=1 HTTPS://example.org/x /x",
        "FROM x\nADD \\\n# comment\n\n  http://127.0.0.1/ /x",
        "FROM x\nADD ht\\\ntp://127.0.0.1/ /x",
        'FROM x\nADD ["http://127.0.0.1/", "/x"]',
        'FROM x\nADD ["http:\\u002f\\u002f127.0.0.1/", "/x"]',
        'FROM x\nADD http:"//"127.0.0.1/ /x',
        "FROM x\nADD ht\\tp://127.0.0.1/ /x",
        "FROM x\nARG u=http://127.0.0.1/\nADD $u /x",
        "FROM x\nONBUILD ADD http://127.0.0.1/ /x",
        "FROM x\nRUN echo `date`\nADD http://127.0.0.1/ /x",
        "FROM x\nADD git@example.org:a/b /x",
        "FROM x\nADD\x0chttp://127.0.0.1/ /x",
        "FROM x\nADD\\\n  http://127.0.0.1/ /x",
        "FROM x\nRUN true \\\\\n# `\nADD http://127.0.0.1/ /x",
        ESCAPED,
    ],
)
def test_what_the_engine_itself_would_fetch_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload, match="ADD cannot fetch an address here"):
        check_dockerfile(text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nADD data.tar.gz /data",
        "FROM x\nRUN echo ADD http://example.org",
        "FROM x\nLABEL url=http://example.org",
        "FROM x\n# ADD http://example.org /x",
        'FROM x\nCOPY a b\nENTRYPOINT ["/b"]',
    ],
)
def test_other_dockerfiles_pass(text: str) -> None:
    check_dockerfile(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FROM a", ["a"]),
        ("from  a:1  as  b\nFROM b\nFROM c", ["a:1", "c"]),
        ("FROM a AS B\nFROM b", ["a"]),
        ("FROM a\nFROM b\nFROM b", ["a", "b"]),
        ("FROM scratch", []),
        ("FROM r.example:5000/a/b@sha256:0f", ["r.example:5000/a/b@sha256:0f"]),
        ("# FROM x\nFROM \\\n# a comment\n\n  a", ["a"]),
        ("FROM a\r\nRUN true\r\nFROM b\r\n", ["a", "b"]),
        ("ARG V=3\nFROM a:$V", ["a:3"]),
        ("ARG V='3'\nARG W=${V}.1\nFROM a:${W}", ["a:3.1"]),
        ("ARG GIVEN=3\nFROM a:$GIVEN", ["a:7"]),
        ("ARG GIVEN\nFROM a:$GIVEN", ["a:7"]),
        ("FROM a:${X:-2}", ["a:2"]),
        ("ARG X=1\nFROM a${X:+:slim}", ["a:slim"]),
        ("FROM --platform=linux/arm64 a", ["a for linux/arm64"]),
        ("ARG P=linux/arm64\nFROM --platform=$P a AS b\nFROM b", ["a for linux/arm64"]),
        # An ARG counts only where it is declared, before the first stage.
        ("FROM a\nARG GIVEN\nFROM b${GIVEN:-c}", ["a", "bc"]),
        # Engines differ in whether this is the escape character: what either reads is looked at.
        ("# a comment\n# escape=`\nFROM a\nRUN true `\nFROM b", ["a", "b"]),
        (" # escape=`\nFROM a\nRUN true \\\nFROM b", ["a", "b"]),
        ("FROM a\nRUN true \\\\\nFROM b", ["a", "b"]),
        ("# a \\\nFROM a", ["a"]),
        ("\ufeffFROM a", ["a"]),
        ("RUN dir \\\nFROM b\nFROM a", ["a"]),
    ],
)
def test_what_a_dockerfile_builds_on(text: str, names: list[str]) -> None:
    found = [f"{a} for {to}" if to else a for a, to in bases(text, {"GIVEN": "7"})]
    assert found == names


@pytest.mark.parametrize(
    ("target", "names"), [("", ["a", "c"]), ("one", ["a"]), ("ONE", ["a"]), ("0", ["a"])]
)
def test_stages_after_the_target_are_not_built(target: str, names: list[str]) -> None:
    text = "FROM a AS one\nFROM one AS two\nFROM c"
    assert [base.name for base in bases(text, {}, target)] == names


@pytest.mark.parametrize(
    "word", ["$X", "${X}", '"a"', "a\\b", "${X:-${Y}}", "${GIVEN#7}", "${GIVEN/7/8}", "a`b", "$"]
)
def test_image_whose_name_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises(InvalidPayload, match="the name of the image cannot be read here") as error:
        bases(f"ARG GIVEN\nFROM {word}", {"GIVEN": "7"})
    assert word in str(error.value)


def test_there_must_be_a_dockerfile() -> None:
    with pytest.raises(InvalidPayload, match="hold no Dockerfile"):
        check_dockerfile(None)
