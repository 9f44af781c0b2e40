"""The list of a result's files, as markdown for the UI."""

from tasks.contracts import PublishedFile
from tasks.storage.results.interface import Result

_LISTED = 100  # files; all of them are in the manifest


def listing(result: Result, notes: str = "", appendix: str = "") -> str:
    """Markdown with a result's location and files; `notes` stand above them, `appendix` below."""
    manifest = result.manifest
    rows = "\n".join(
        f"| {_named(file, result.address(file))} | {file.bytes:,} |"
        for file in manifest.files[:_LISTED]
    )
    more = len(manifest.files) - _LISTED
    rest = f"\n\n… and {more:,} more: see `manifest.json` there." if more > 0 else ""
    attempt = f", attempt {manifest.attempt}" if manifest.attempt > 1 else ""
    return (
        f"## {manifest.task}: {len(manifest.files):,} files, {manifest.bytes:,} bytes{attempt}\n\n"
        f"`{result.location}`\n\n{notes}\n\n| file | bytes |\n|---|---:|\n{rows}{rest}\n\n"
        f"{appendix}\n"
    )


def _named(file: PublishedFile, address: str | None) -> str:
    name = f"`{_cell(file.path)}`"
    return name if address is None else f"[{name}](<{address}>)"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
