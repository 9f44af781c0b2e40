"""Commands for the gateway and the tokens of its users."""

from datetime import timedelta
from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.output.console import AsJson, err, out, say, say_json
from deployments.cli.output.views import tokens_table
from deployments.cli.where import span
from deployments.connection import become, server_api
from deployments.gateway.users.sessions import Sessions
from deployments.gateway.users.tokens import USUAL, Scope, Tokens
from deployments.local import programs
from deployments.local.outside import check_host, refuse_busy_port
from tasks.errors import InvalidPayload
from tasks.settings import get_settings

_NEVER = "never"
_LONGEST = timedelta(days=36_500)
token = App(name="token")


def gateway(*, host: str = programs.HOST, port: int = 4280, insecure: bool = False) -> None:
    """Run a gateway on this host, for a server elsewhere. `prefecture up` has one of its own.

    Runs in the foreground, at --host and, where it is set, at PREFECTURE_BIND. It reads the
    tokens of this host's home.

    Example: `prefecture gateway --port 8080`

    Parameters
    ----------
    host
        Where it listens. Another address than that of this host alone needs --insecure.
    port
        Where it listens.
    insecure
        Listen without TLS on --host or PREFECTURE_BIND: behind a proxy, or in a network that you
        trust.
    """
    settings = get_settings()
    check_host(settings, host, insecure=insecure)
    refuse_busy_port(settings, port, host)
    api = server_api()
    become(programs.gateway(port, settings, host), programs.gateway_env(settings, "gateway", api))


@token.command
def add(
    user: str,
    *,
    scope: Annotated[tuple[Scope, ...], Parameter(negative="", show_default=False)] = USUAL,
    expires: str = "365d",
) -> None:
    """Make a token for a user of the gateway, and print it: its only copy.

    A user may have several. Jobs that are submitted with it have the tag user:NAME.

    Example: `prefecture token add anna --expires 90d`

    Parameters
    ----------
    user
        The user's name.
    scope
        What the token allows; may be repeated. submit: submit jobs, and cancel, restart and delete
        one's own. read-own: see one's own jobs. read-all: see those of all users. operate: all of
        this for the jobs of all users. Default: submit and read-own.
    expires
        After which time it is of no use: 90m, 24h, 7d or 4w, or never.
    """
    out.print(Tokens(get_settings().home).add(user, scope, _lasts(expires)), soft_wrap=True)
    err.print("Keep it: it is shown this once. It is sent as `Authorization: Bearer …`")


@token.command
def link(user: str, *, gateway: str | None = None) -> None:
    """Print a link that signs a browser in to the gateway's page, with a user's newest token.

    A link works once, and for an hour; the browser stays signed in for 30 days. With the
    link, anyone is the user: send it as you would send a token.

    Example: `prefecture token link anna`

    Parameters
    ----------
    user
        The user's name.
    gateway
        The address by which the browser reaches the gateway, such as https://jobs.example.org.
        Default: that of the gateway of this home's `up`.
    """
    settings = get_settings()
    secret = Sessions(settings.home, Tokens(settings.home)).link(user)
    address = gateway or programs.gateway_url(settings, server_api())
    say(f"{address.rstrip('/')}/sign-in#{secret}")


@token.default
@token.command(name="list")
def list_all(*, json: AsJson = False) -> None:
    """List the tokens of the gateway's users, without their secrets.

    `prefecture token add` and `revoke` change them.

    Example: `prefecture token list`

    Parameters
    ----------
    json
        As JSON: times in UTC.
    """
    found = Tokens(get_settings().home).all()
    if json:
        say_json([each.model_dump(mode="json", exclude={"digest"}) for each in found])
    elif found:
        out.print(tokens_table(found))
    else:
        say("there is no token: `prefecture token add NAME` makes one")


@token.command
def revoke(name: str) -> None:
    """Revoke a token by its id, or all tokens of a user. The gateway refuses them at once.

    Example: `prefecture token revoke anna`

    Parameters
    ----------
    name
        A token's id, or a user's name.
    """
    for each in Tokens(get_settings().home).revoke(name):
        say(f"token {each.id} of {each.user} is revoked")


def _lasts(text: str) -> timedelta | None:
    """The time that a token lasts. Raises InvalidPayload."""
    if text == _NEVER:
        return None
    lasts = span(text)
    if lasts is None:
        raise InvalidPayload(
            f"--expires {text[:80]!r}: use a span such as 90m, 24h, 7d or 4w, or never"
        )
    return min(lasts, _LONGEST)
