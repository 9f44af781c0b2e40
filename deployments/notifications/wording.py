"""What people read of a job's end, whatever way it comes to them.

Templates, because Prefect's automations take no other; `event` is the event of the job's end.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from deployments.notifications.schema import JobEnd
from tasks.runtime.events import JobCompleted

_CHOSEN = ("task", "results_directory", "location", "reason")
"""Fields whose text is chosen by whoever submits a job, or by a job."""

# For Slack, look-alikes: Prefect sends by Apprise, which makes a mention of what was escaped.
_SLACK = {"<": "\u2039", ">": "\u203a"}
_MARKDOWN = {mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+-.!|~&"} | {"@": "@\u200b"}
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ESCAPES = {
    "slack-webhook": _SLACK,
    "discord-webhook": _MARKDOWN,
    "mattermost-webhook": _MARKDOWN,
    "ms-teams-webhook": _MARKDOWN,
    "sendgrid-email": _HTML,
}
_MOST_LINES = 200  # jobs that are listed in one message
_MOST_OF_A_REASON = 200  # characters

SUBJECT = (
    "{{ event.payload.task }} {{ event.payload.results_directory }}: {{ event.payload.outcome }}"
)

TEXT = """\
{{ event.payload.task }} for {{ event.payload.results_directory }} \
{%- if event.payload.outcome == "completed" %} has completed.

{{ event.payload.files }} file{{ "" if event.payload.files == 1 else "s" }}, \
{{ event.payload.bytes | filesizeformat }}, in
{{ event.payload.location }}
{%- else %} {{ "has failed" if event.payload.outcome == "failed" else "was cancelled" }}.

{{ event.payload.reason }}
{%- endif %}

It waited {{ "%.0f" | format(event.payload.waited) }} s and ran \
{{ "%.0f" | format(event.payload.ran) }} s, in {{ event.payload.attempts }} \
attempt{{ "" if event.payload.attempts == 1 else "s" }}.

To look at it: prefecture results {{ event.payload.job }}
"""


def written_for(kind: str) -> tuple[str, str]:
    """Subject and text for a kind of notification block, such as slack-webhook.

    What a job chooses, its names and its reason, is shown there as it is: it makes no mention, link
    or mark-up.
    """
    escapes = _ESCAPES.get(kind, {})
    subject, text = _escaped(SUBJECT, escapes), _escaped(TEXT, escapes)
    return (subject, text.replace("\n", "<br>\n")) if escapes is _HTML else (subject, text)


def _escaped(template: str, escapes: Mapping[str, str]) -> str:
    # By filters that every template of Prefect's may use.
    chain = "".join(
        f" | replace({json.dumps(mark)}, {json.dumps(instead)})"
        for mark, instead in escapes.items()
    )
    for field in _CHOSEN:
        shown = f"event.payload.{field}"
        template = template.replace(f"{{{{ {shown} }}}}", f"{{{{ {shown}{chain} }}}}")
    return template


def digest_subject(ends: Sequence[JobEnd]) -> str:
    """How many jobs have ended, and how."""
    counts = Counter(end.outcome for end in ends)
    parts = [f"{counts[name]:,} {name}" for name in ("failed", "cancelled", "completed")]
    said = ", ".join(part for part in parts if not part.startswith("0 "))
    return f"{len(ends):,} jobs: {said}"


def digest_text(ends: Sequence[JobEnd]) -> str:
    """A line for each of several jobs: those that did not complete first, in the order of their
    ends."""
    ordered = sorted(ends, key=lambda end: isinstance(end, JobCompleted))
    lines = [_line(end) for end in ordered[:_MOST_LINES]]
    if len(ordered) > _MOST_LINES:
        lines.append(f"and {len(ordered) - _MOST_LINES:,} more: prefecture inbox")
    return f"{digest_subject(ends)}.\n\n" + "\n".join(lines) + "\n"


def _line(end: JobEnd) -> str:
    what = end.location if isinstance(end, JobCompleted) else end.reason
    if len(what) > _MOST_OF_A_REASON:
        what = what[: _MOST_OF_A_REASON - 1] + "…"
    said = f"{end.task} for {end.results_directory}: {end.outcome}: {what} ({end.job})"
    return " ".join(said.split())
