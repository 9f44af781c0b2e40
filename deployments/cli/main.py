"""The entry point: which commands there are, and how an error is told."""

from tasks.runtime.importing import importing

with importing():
    import sys
    from collections.abc import Sequence
    from importlib import import_module
    from importlib.metadata import version

    import httpx
    from cyclopts import App
    from pydantic import ValidationError

    from deployments.cli.console import err
    from deployments.connection import unavailable
    from tasks.errors import PrefectureError

_COMMANDS = {
    "operate": ("up", "apply", "work", "supervise", "status", "scale", "samples", "image", "demo"),
    "jobs": ("submit", "submit_many", "watch", "logs", "cancel", "restart", "delete", "results"),
    "notifications": ("inbox", "notify"),
    "analytics": ("stats", "platform"),
    "authoring": ("new_task",),
}


def make_app(words: Sequence[str]) -> App:
    """The command line, for the words that were given.

    A command loads its own module alone: to load them all takes a third of the time of most. Where
    the words name none, all are loaded, for the help shows what each is for.
    """
    names = {name.replace("_", "-") for names in _COMMANDS.values() for name in names}
    named = bool(words) and words[0] in names
    app = App(
        name="prefecture",
        help="Compute infrastructure on Prefect.",
        version=lambda: version("prefecture"),
        version_flags=["--version"],
    )
    with importing():
        for module, commands in _COMMANDS.items():
            path = f"deployments.cli.{module}"
            if not named or words[0].replace("-", "_") in commands:
                import_module(path)
            for name in commands:
                app.command(f"{path}:{name}" if named else getattr(import_module(path), name))
    return app


def main() -> None:
    """Run a command: an error of ours is one line on stderr and exit code 1."""
    try:
        make_app(sys.argv[1:])()
    except PrefectureError as error:
        _fail(str(error))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        setting = str(first["loc"][0]).upper().removeprefix("PREFECTURE_")  # which an alias has
        _fail(f"setting PREFECTURE_{setting}: {first['msg']}")
    except httpx.HTTPError as error:
        _fail(str(unavailable(error)))


def _fail(message: str) -> None:
    err.print(f"prefecture: {message}", markup=False, soft_wrap=True)
    sys.exit(1)
