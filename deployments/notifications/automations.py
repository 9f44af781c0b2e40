"""Prefect automations that notify subscribers through notification blocks, at most once.

Our automations have the tag `prefecture` and a name for each subscriber. Others are not touched.
"""

from collections.abc import Sequence
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.filters import AutomationFilter, AutomationFilterTags
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.notifications.subscribers import OUTCOMES, Subscriber
from deployments.notifications.wording import written_for
from tasks.errors import OperatorError
from tasks.prefect_api.pages import PAGE
from tasks.runtime.events import JOB_RESOURCE

TAG = "prefecture"
_PREFIX = "prefecture: "


async def automation_for(
    client: PrefectClient, subscriber: Subscriber, block: str
) -> AutomationCore:
    """Build the automation that notifies a subscriber through a block, `<type>/<name>`.

    Raises OperatorError where the block does not exist or is not a notification block.
    """
    kind, _, _ = block.partition("/")
    found = await _find_block(client, subscriber.name, block)
    return _automation(subscriber, found, *written_for(kind))


async def apply_automations(client: PrefectClient, wanted: Sequence[AutomationCore]) -> None:
    """Create, update and delete our automations so that they match `wanted`.

    A paused automation stays paused. An automation that matches already is not written.
    """
    existing: dict[str, Automation] = {}
    superfluous: list[Automation] = []
    for automation in await _read_ours(client):
        # The same name twice: two `prefecture apply` ran at the same moment.
        if existing.setdefault(automation.name, automation) is not automation:
            superfluous.append(automation)
    for automation in wanted:
        known = existing.pop(automation.name, None)
        if known is None:
            await client.create_automation(automation)
        elif _content(known) != _content(_paused_as(automation, known)):
            await client.update_automation(known.id, _paused_as(automation, known))
    for automation in [*superfluous, *existing.values()]:
        await client.delete_automation(automation.id)


async def _read_ours(client: PrefectClient) -> list[Automation]:
    found: list[Automation] = []
    while True:
        page = await client.read_automations(
            automations=AutomationFilter(tags=AutomationFilterTags(all_=[TAG])),
            sort=AutomationSort.CREATED_DESC,
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            return [automation for automation in found if automation.name.startswith(_PREFIX)]


def _paused_as(automation: AutomationCore, known: Automation) -> AutomationCore:
    return automation.model_copy(update={"enabled": known.enabled})


def _content(automation: AutomationCore) -> dict[str, object]:
    return automation.model_dump(include=set(AutomationCore.model_fields))


async def _find_block(client: PrefectClient, subscriber: str, block: str) -> UUID:
    kind, _, name = block.partition("/")
    try:
        # Without secrets: only its schema and id are read.
        document = await client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound as error:
        raise OperatorError(
            f"subscriber {subscriber!r}: there is no block {block}: create it in the UI under "
            "Blocks, or correct the name"
        ) from error
    schema = document.block_schema
    if schema is not None and "notify" not in schema.capabilities:
        raise OperatorError(
            f"subscriber {subscriber!r}: {block} is no notification block: use a block such as "
            "slack-webhook/ops"
        )
    return document.id


def _automation(subscriber: Subscriber, block: UUID, subject: str, text: str) -> AutomationCore:
    jobs = subscriber.jobs
    names = [OUTCOMES[outcome].name_of_event for outcome in jobs.outcomes or OUTCOMES]
    match = {"prefect.resource.id": [f"{JOB_RESOURCE}*"]}
    if jobs.tasks is not None:
        match["prefecture.task"] = jobs.tasks
    related = {
        "prefect.resource.role": ["tag"],
        "prefect.resource.id": [f"prefect.tag.{tag}" for tag in jobs.tags or ()],
    }
    return AutomationCore.model_validate(
        {
            "name": f"{_PREFIX}{subscriber.name}",
            "description": "Created by `prefecture apply` from the file that declares subscribers.",
            "tags": [TAG],
            "trigger": {
                "type": "event",
                "posture": "Reactive",
                "expect": names,
                "match": match,
                "match_related": related if jobs.tags is not None else {},
                "threshold": 1,
                "within": 0,
            },
            "actions": [
                {
                    "type": "send-notification",
                    "block_document_id": block,
                    "subject": subject,
                    "body": text,
                }
            ],
        }
    )
