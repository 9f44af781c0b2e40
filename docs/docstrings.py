"""Reads docstrings of classes and of their attributes, for the generated pages."""

import ast
import inspect
import textwrap


def paragraphs(thing: object) -> str:
    """The docstring, each paragraph on one line. Raises ValueError where there is none."""
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{thing!r} has no docstring")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def attributes(of: type) -> dict[str, tuple[str, str]]:
    """The annotation and the docstring (or "") of each attribute that a class declares."""
    [declared] = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(declared, ast.ClassDef)
    found: dict[str, tuple[str, str]] = {}
    for place, node in enumerate(declared.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            following = declared.body[place + 1 : place + 2]
            found[node.target.id] = ast.unparse(node.annotation), _text(following)
    return found


def _text(nodes: list[ast.stmt]) -> str:
    match nodes:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return " ".join(text.split())
        case _:
            return ""
