"""What people read of a job's end, whatever way it comes to them.

Templates, because Prefect's automations take no other; `event` is the event of the job's end.
"""

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
