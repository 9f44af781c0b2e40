"""Shows the newest usage report in the Prefect UI: its charts and tables as artifacts."""

import base64
from typing import Any

from prefect.artifacts import acreate_image_artifact, acreate_table_artifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from tasks.history.outcomes import Row
from tasks.history.queries import Answer
from tasks.history.reports.charts import png
from tasks.history.reports.page import Report, seconds
from tasks.prefect_api.pages import PAGE

_KEY = "usage-"


async def show(client: PrefectClient, report: Report, answer: Answer) -> None:
    """Create the artifacts, and delete those of earlier reports: each holds a whole picture."""
    for chart in report.charts:
        # A card may hold several drawings.
        for number, svg in enumerate(chart.svgs):
            image = base64.b64encode(png(svg)).decode()
            await acreate_image_artifact(
                image_url=f"data:image/png;base64,{image}",
                key=_KEY + chart.name + (f"-{number + 1}" if number else ""),
                description=f"{chart.title}. {chart.caption}",
            )
    for name, rows in (("slowest", answer.slowest), ("most-tried", answer.most_requeued)):
        await acreate_table_artifact(
            [_shown(row) for row in rows] or [{"job": "none"}],
            key=f"{_KEY}{name}",
            description=f"Jobs since {answer.begin:%F %H:%M} UTC: {name.replace('-', ' ')}",
        )
    await _remove_earlier(client)


def _shown(row: Row) -> dict[str, Any]:
    about = {name: row[name] for name in ("job", "task", "queue", "outcome", "attempts")}
    return about | {"submitted": f"{row['submitted']:%F %T}", "ran": seconds(row["ran"])}


async def _remove_earlier(client: PrefectClient) -> None:
    found = await client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(like_=_KEY)),
        sort=ArtifactSort.CREATED_DESC,
        limit=PAGE,
    )
    kept: set[str | None] = set()
    for artifact in found:
        if artifact.key in kept:
            await client.delete_artifact(artifact.id)
        kept.add(artifact.key)
