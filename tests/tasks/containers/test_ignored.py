"""`.dockerignore`, by the examples of Docker's own documentation and of its matcher's tests."""

import pytest

from tasks.containers.images.ignored import Ignored, read
from tasks.errors import InvalidPayload


@pytest.mark.parametrize(
    ("patterns", "left_out", "kept"),
    [
        ("*/temp*", ["a/temporary.txt", "a/temp", "a/temp/b"], ["temp", "b/c/temp"]),
        ("*/*/temp*", ["a/b/temporary.txt"], ["a/temp"]),
        ("temp?", ["tempa", "tempb"], ["temp", "tempab"]),
        ("**/*.go", ["a.go", "b/a.go", "c/b/a.go"], ["a.go.txt"]),
        ("*.md\n!README.md", ["a.md"], ["README.md", "b/a.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["README-secret.md", "x.md"], ["README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["x.md"], ["README-secret.md"]),
        ("secrets\n!secrets/public", ["secrets", "secrets/key", "secrets/a/b"], ["secrets/public"]),
        ("*\n!src\n!run.sh", ["a", "b/c", "Dockerfile"], ["src", "src/a", "src/b/c", "run.sh"]),
        ("**\n!**/*.py", ["a", "a/b"], ["a.py", "a/b/c.py"]),
        ("/build/", ["build", "build/x"], ["a/build"]),
        ("./build/../out", ["out", "out/x"], ["build"]),
        ("  # no comment\n# one\n\n.env", [".env"], ["env"]),
        (
            "**/node_modules",
            ["node_modules", "a/node_modules/b"],
            ["node_module", "a/node_modulesx"],
        ),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/d/c"], ["a/b/d"]),
        ("a**", ["a", "ab", "a/b"], ["ba"]),
        ("Secret", ["Secret"], ["secret", "SECRET"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[^a]x", ["bx"], ["ax", "/x"]),
        (r"a\*b", ["a*b"], ["axb"]),
        (r"\[x\]", ["[x]"], ["x"]),
        ("a.b", ["a.b"], ["axb"]),
        ("(a|b)+$", ["(a|b)+$"], ["a", "b"]),
        (".\n..", [], ["a"]),
        ("a b", ["a b"], ["ab"]),
    ],
)
def test_patterns(patterns: str, left_out: list[str], kept: list[str]) -> None:
    ignored = Ignored(patterns)
    assert [path for path in left_out if not ignored.leaves_out(path)] == []
    assert [path for path in kept if ignored.leaves_out(path)] == []


@pytest.mark.parametrize("pattern", ["!", "[a", "[]", "a\\"])
def test_what_is_no_pattern_is_refused_with_its_line(pattern: str) -> None:
    with pytest.raises(InvalidPayload, match=r"\.dockerignore, line 2: .* is no pattern"):
        Ignored(f"a\n{pattern}\n")


def test_file_as_editors_write_it() -> None:
    assert Ignored(read(b"\xef\xbb\xbf.env\r\n*.key\r\n")).leaves_out(".env")
    with pytest.raises(InvalidPayload, match=r"\.dockerignore cannot be read"):
        read(b"\xff\xfe.")
