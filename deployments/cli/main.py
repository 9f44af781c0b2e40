"""The entry point of `prefecture`: its commands, and the form of its errors."""

from tasks.runtime.importing import importing

with importing():
    import signal
    import sys
    from collections.abc import Sequence
    from importlib import import_module
    from importlib.metadata import version

    import httpx
    from cyclopts import App, Group
    from pydantic import ValidationError

    from deployments.cli.output.console import err
    from deployments.gateway_login import need_operator
    from tasks.errors import PrefectureError

_USERS = Group("Users", help="Submit jobs, follow them, fetch their results.", sort_key=1)
_OPERATORS = Group("Operators", help="Run Prefecture, and see its status.", sort_key=2)
_HELP = Group("Help", sort_key=3)
_INTERRUPTED = 128 + signal.SIGINT  # as a shell reports it
_COMMANDS = {
    _USERS: {
        "login": ("login", "logout"),
        "jobs": ("submit", "submit_many", "watch", "logs", "results"),
        "queries": ("tasks", "jobs", "explain"),
        "selected": ("cancel", "hold", "release", "move", "restart", "delete"),
        "schedules": ("schedule",),
        "notifications": ("inbox",),
        "analytics": ("stats",),
        "operators.demo": ("samples",),
        "authoring": ("new_task",),
        "completion": ("completion",),
    },
    _OPERATORS: {
        "operators.run": ("up", "apply", "image"),
        "operators.demo": ("demo",),
        "operators.operate": (
            *("status", "ui", "password", "scale", "drain", "work", "supervise"),
        ),
        "operators.servers": ("server", "services", "migrate"),
        "operators.gateway": ("gateway", "token"),
        "operators.clean": ("clean",),
        "notifications": ("notify",),
        "analytics": ("platform",),
    },
}


# These work through Prefect's API, or in the home of the server.
_BY_OPERATORS = {
    *(name for names in _COMMANDS[_OPERATORS].values() for name in names),
    *("stats", "samples"),
}


def make_app(words: Sequence[str]) -> App:
    """The command line application, for the given arguments.

    Imports only the module of the command that `words` name: importing all would be a third of the
    run time of most commands. Imports all for the help and for completion, which describe each.
    """
    places = {
        name.replace("_", "-"): (f"deployments.cli.{module}", name, group)
        for group, modules in _COMMANDS.items()
        for module, names in modules.items()
        for name in names
    }
    named = bool(words) and words[0] in places and words[0] != "completion"
    app = App(
        name="prefecture",
        help="Compute infrastructure on Prefect. `prefecture COMMAND --help` has an example.",
        version=lambda: version("prefecture"),
        version_flags=["--version"],
    )
    app["--help"].group = app["--version"].group = _HELP
    with importing():
        for order, (command, (module, name, group)) in enumerate(places.items()):
            if named and command != words[0]:
                app.command(f"{module}:{name}", name=command, group=group)
            else:
                found = getattr(import_module(module), name)
                if isinstance(found, App):  # has subcommands
                    found.group, found.sort_key = group, order
                    app.command(found)
                else:
                    app.command(found, name=command, group=group, sort_key=order)
    return app


def main() -> None:
    """Run a command. A PrefectureError is one line on stderr and exit code 1; Ctrl-C is 130."""
    words = sys.argv[1:]
    try:
        if words and words[0] in _BY_OPERATORS and not {"--help", "-h"} & {*words}:
            need_operator(f"prefecture {words[0]}")
        make_app(words)()
    except PrefectureError as error:
        _fail(str(error))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The name of a setting with an alias has the prefix already.
        setting = str(first["loc"][0]).upper().removeprefix("PREFECTURE_")
        _fail(f"setting PREFECTURE_{setting}: {first['msg']}")
    except httpx.HTTPError as error:
        # Imported here, since it imports Prefect.
        from deployments.connection import unavailable

        _fail(str(unavailable(error)))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        # Only Python's shutdown is left, which would show a traceback for another Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _fail(message: str) -> None:
    err.print(f"prefecture: {message}", markup=False, soft_wrap=True)
    sys.exit(1)
