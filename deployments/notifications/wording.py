"""The text of notifications, for every channel.

Jinja templates, because Prefect's automations accept only those; `event` is the final event.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from deployments.notifications.schema import JobEnd
from tasks.runtime.events import JobCompleted

_CHOSEN = ("task", "results_directory", "location", "reason")
"""Fields whose text a user or a job chooses: it is escaped."""

# Look-alikes for Slack: Apprise, by which Prefect sends, would turn an escaped mention into one.
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
_MAX_LINES = 200  # jobs listed in one message
_MAX_REASON = 200  # characters

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

    Names and reasons, which jobs choose, are escaped: they cannot become mentions, links or
    mark-up.
    """
    escapes = _ESCAPES.get(kind, {})
    subject, text = _escaped(SUBJECT, escapes), _escaped(TEXT, escapes)
    return (subject, text.replace("\n", "<br>\n")) if escapes is _HTML else (subject, text)


def _escaped(template: str, escapes: Mapping[str, str]) -> str:
    # By `replace`, one of the filters that Prefect allows in templates.
    chain = "".join(
        f" | replace({json.dumps(character)}, {json.dumps(escape)})"
        for character, escape in escapes.items()
    )
    for field in _CHOSEN:
        shown = f"event.payload.{field}"
        template = template.replace(f"{{{{ {shown} }}}}", f"{{{{ {shown}{chain} }}}}")
    return template


def digest_subject(ends: Sequence[JobEnd]) -> str:
    """The subject for several jobs: how many, by outcome."""
    counts = Counter(end.outcome for end in ends)
    parts = [f"{counts[name]:,} {name}" for name in ("failed", "cancelled", "completed")]
    listed = ", ".join(part for part in parts if not part.startswith("0 "))
    return f"{len(ends):,} jobs: {listed}"


def digest_text(ends: Sequence[JobEnd]) -> str:
    """The text for several jobs, a line each, in the given order but completed jobs last."""
    ordered = sorted(ends, key=lambda end: isinstance(end, JobCompleted))
    lines = [_line(end) for end in ordered[:_MAX_LINES]]
    if len(ordered) > _MAX_LINES:
        lines.append(f"and {len(ordered) - _MAX_LINES:,} more: prefecture inbox")
    return f"{digest_subject(ends)}.\n\n" + "\n".join(lines) + "\n"


def _line(end: JobEnd) -> str:
    what = end.location if isinstance(end, JobCompleted) else end.reason
    if len(what) > _MAX_REASON:
        what = what[: _MAX_REASON - 1] + "…"
    text = f"{end.task} for {end.results_directory}: {end.outcome}: {what} ({end.job})"
    return " ".join(text.split())
