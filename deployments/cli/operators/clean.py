"""Commands that remove what is not needed any more: results that have expired, old uploads."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.filesize import decimal

from deployments.cli.output.console import Flag, confirm, out, say
from deployments.cli.where import needed_span
from deployments.connection import connect
from deployments.gateway.old_uploads import OldUpload, old_uploads, remove_old
from deployments.gateway.uploads.opening import open_store
from deployments.retention.choice import Rules
from deployments.retention.results import Chosen, Expiry, rules_of
from deployments.tables import plain_table
from tasks.errors import InvalidPayload
from tasks.settings import get_settings

_SHOWN = 20  # of what is to be removed
_Yes = Annotated[
    bool, Parameter(name=["--yes", "-y"], help="Do not ask.", negative="", show_default=False)
]
_T = TypeVar("_T")
clean = App(name="clean")


@clean.default
def results(
    *, older: str | None = None, size: str | None = None, dry_run: Flag = False, yes: _Yes = False
) -> None:
    """Remove the results that have expired, oldest first, after asking.

    `prefecture clean inputs` removes old uploads.

    The notifier does the same by itself, by PREFECTURE_RESULTS_DAYS and PREFECTURE_RESULTS_SIZE.
    Results of jobs that have not ended, and those that somebody fetches, stay.

    Example: `prefecture clean --older 30d --dry-run`

    Parameters
    ----------
    older
        Those that are older than 90m, 24h, 7d or 4w. Default: as the settings say.
    size
        The oldest, until all together have no more than this, such as 500GB. Default: as above.
    dry_run
        Only show them.
    """
    settings = get_settings()
    usual = rules_of(settings)
    rules = Rules(
        usual.age if older is None else needed_span(older, "--older"),
        usual.size if size is None else _bytes(size),
    )

    async def choose() -> Chosen:
        async with connect() as client:
            return await Expiry(client, settings).chosen(rules)

    chosen = asyncio.run(choose())
    table = plain_table("Expired results", "result", ">bytes", "published", "reason")
    for result, reason in chosen[:_SHOWN]:
        at = f"{result.published.astimezone(UTC):%F %T} UTC"
        table.add_row(result.place, f"{result.bytes:,}", at, reason)
    total = sum(result.bytes for result, _ in chosen)
    if not _agreed(table, chosen, "result", total, dry_run=dry_run, yes=yes):
        return

    async def remove() -> str:
        async with connect() as client:
            done = await Expiry(client, settings).remove(chosen)
        busy = f"; {done.busy:,} are being fetched, or are gone already" if done.busy else ""
        return f"{_some(done.results, 'result')} removed, {decimal(done.bytes)}{busy}"

    say(asyncio.run(remove()))


@clean.command
def inputs(
    *, older: str, user: str | None = None, dry_run: Flag = False, yes: _Yes = False
) -> None:
    """Remove files that users of the gateway have uploaded long ago, after asking.

    Those that a schedule, or a waiting or running job, names stay. Works on the host with the
    inputs root, or on any one where they are in S3.

    Example: `prefecture clean inputs --older 4w --dry-run`

    Parameters
    ----------
    older
        Those that were uploaded before: 90m, 24h, 7d or 4w ago.
    user
        Only those of this user.
    dry_run
        Only show them.
    """
    settings = get_settings()
    before = datetime.now(UTC) - needed_span(older, "--older")
    store = open_store(settings)

    async def choose() -> list[OldUpload]:
        async with connect() as client:
            return await old_uploads(client, store, settings.home, before, user)

    found = asyncio.run(choose())
    table = plain_table("Old uploads", "file", ">bytes", "uploaded")
    for each in found[:_SHOWN]:
        at = f"{datetime.fromtimestamp(each.file.modified, UTC):%F %T} UTC"
        table.add_row(each.file.source, f"{each.file.bytes:,}", at)
    total = sum(each.file.bytes for each in found)
    if _agreed(table, found, "file", total, dry_run=dry_run, yes=yes):
        say(f"{_some(remove_old(store, found, before), 'file')} removed, {decimal(total)}")


def _agreed(
    table: object, found: Sequence[_T], what: str, total: int, *, dry_run: bool, yes: bool
) -> bool:
    """Show what is to be removed. Returns whether it is."""
    if not found:
        say(f"no {what} to remove")
        return False
    out.print(table)
    if len(found) > _SHOWN:
        say(f"and {len(found) - _SHOWN:,} more")
    asked = f"{_some(len(found), what)}, {decimal(total)}"
    if dry_run:
        say(f"{asked}: nothing is removed")
        return False
    if confirm(f"Remove {asked}?", yes=yes):
        return True
    say("nothing was removed")
    return False


def _bytes(text: str) -> int:
    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise InvalidPayload(f"--size {text[:80]!r}: use a size such as 500GB or 2TiB") from None


def _some(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
